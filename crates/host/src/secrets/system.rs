//! The secrets that a system declares, and its templates: a folder in memory for each time, of which a link says which holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bosco_secrets::sops;
use bosco_secrets::{Bundle, Changes, Declared, Hashes, NotPlaced, Placed, Trouble};

use super::accounts::Accounts;
use super::files::{self, Owner};
use super::identities::Identities;
use super::inventory::Inventory;
use super::why;
use crate::places::Places;

/// Where secrets are found.
const SECRETS: &str = "/run/secrets";
/// Where those are that have to be there before users are made.
const FOR_USERS: &str = "/run/secrets-for-users";
/// Below either, where filled-in templates are.
const RENDERED: &str = "rendered";
/// The hashes of what was put in place last, in the same memory.
const HASHES: &str = "hashes.json";

/// What is to be put in place, and what is not there to be.
pub(crate) struct Open<'a> {
    placed: Vec<Placed<'a>>,
    absent: BTreeMap<String, String>,
}

/// Opens what a system declares.
///
/// A bundle that is newer than the system may lack a secret that was revoked since: it is absent then, and that is no error
/// unless `strict`, as it is for a bundle that has come with the system.
///
/// # Errors
/// In words, with the secrets that can't be opened and why.
pub(crate) fn open<'a>(
    declared: &'a Declared,
    bundle: Option<&Bundle>,
    identities: &Identities,
    strict: bool,
) -> Result<Open<'a>, String> {
    let Some(bundle) = bundle else {
        let why = "this host has not been brought any secrets yet; `bosco apply` brings them";
        let names = declared.secrets.iter().map(|secret| secret.name.to_string());
        return Ok(Open { placed: Vec::new(), absent: names.map(|name| (name, why.to_owned())).collect() });
    };
    let (placed, failed) = bosco_secrets::secrets(declared, bundle, &identities.found);
    let mut absent = BTreeMap::new();
    let mut wrong: Vec<NotPlaced> = Vec::new();
    for one in failed {
        let is_absent = match &one.trouble {
            Trouble::NotCarried | Trouble::Sops { why: sops::Error::NoKey(_), .. } => true,
            Trouble::Needs(name) => absent.contains_key(name.as_str()),
            _ => false,
        };
        if is_absent && !strict {
            absent.insert(one.name.clone(), one.trouble.to_string());
        } else {
            wrong.push(one);
        }
    }
    if wrong.is_empty() {
        return Ok(Open { placed, absent });
    }
    let missing: String = identities.missing.iter().map(|why| format!("; {why}")).collect();
    Err(format!("{}{missing}", why(&wrong)))
}

/// Where a set of secrets lies.
struct Folder {
    /// The link.
    link: PathBuf,
    /// Where the sets are.
    sets: PathBuf,
}

impl Folder {
    fn of(places: &Places, for_users: bool) -> Self {
        let name = if for_users { FOR_USERS } else { SECRETS };
        Self { link: places.absolute(name), sets: places.absolute(&format!("{name}.d")) }
    }

    /// The sets that there are, by number.
    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.sets).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn hashes(&self) -> Hashes {
        let text = fs::read(self.sets.join(HASHES)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether it is bosco that has put something there: sops-nix has its secrets at the same place.
    fn is_ours(&self) -> bool {
        self.sets.join(HASHES).exists()
    }

    /// What comes and goes where these names are to be there.
    fn turnover(&self, names: &BTreeSet<String>, inventory: &Inventory) -> (Vec<String>, Vec<String>) {
        let came = names.iter().filter(|name| !inventory.secrets.contains_key(*name)).cloned();
        let here = inventory.secrets.iter().filter(|(_, at)| at.starts_with(&self.link));
        let went = here.filter(|(name, _)| !names.contains(*name)).map(|(name, _)| name.clone());
        (came.collect(), went.collect())
    }
}

/// Puts what is open in its place, all of it at once, and says what has changed.
///
/// # Errors
/// In words: what was there before still is, whole.
pub(crate) fn put(
    places: &Places,
    open: &Open<'_>,
    for_users: bool,
    inventory: &mut Inventory,
) -> Result<Changes, String> {
    let folder = Folder::of(places, for_users);
    let placed: Vec<&Placed<'_>> =
        open.placed.iter().filter(|one| one.needed_for_users == for_users).collect();
    let before: Vec<u64> = folder.numbers();
    if placed.is_empty() && (before.is_empty() || !folder.is_ours()) {
        inventory.absent.extend(open.absent.clone());
        return Ok(Changes::default());
    }
    files::in_memory(places, &folder.sets)?;
    let number = before.iter().max().copied().unwrap_or_default() + 1;
    let set = folder.sets.join(number.to_string());
    let accounts = Accounts::of(places);
    if let Err(why) = write_all(&set, &placed, &accounts) {
        let _ = fs::remove_dir_all(&set);
        return Err(why);
    }
    let (hashes, changes) = compared(open, for_users, &folder.hashes());
    files::link(&set, &folder.link)?;
    for old in before {
        let _ = fs::remove_dir_all(folder.sets.join(old.to_string()));
    }
    write_hashes(&folder, &hashes)?;
    take_stock(places, open, &placed, &folder, inventory)?;
    Ok(changes)
}

/// What putting that in its place would change. `None`: something of what has to be there before users are made, which takes
/// their making.
pub(crate) fn preview(places: &Places, open: &Open<'_>, inventory: &mut Inventory) -> Option<Changes> {
    let (for_users, others) = (Folder::of(places, true), Folder::of(places, false));
    let before = for_users.hashes();
    if compared(open, true, &before).0 != before {
        return None;
    }
    let names = open.placed.iter().filter(|one| !one.needed_for_users).map(name_of).collect();
    let (came, went) = others.turnover(&names, inventory);
    inventory.came.extend(came);
    inventory.went.extend(went);
    Some(compared(open, false, &others.hashes()).1)
}

fn compared(open: &Open<'_>, for_users: bool, before: &Hashes) -> (Hashes, Changes) {
    let mine: Vec<Placed<'_>> = open
        .placed
        .iter()
        .filter(|one| one.needed_for_users == for_users)
        .map(|one| Placed { bytes: one.bytes.clone(), ..*one })
        .collect();
    (Hashes::of(&mine), bosco_secrets::changes(&mine, before))
}

/// Its name below the folder.
fn name_of(one: &Placed<'_>) -> String {
    if one.template { format!("{RENDERED}/{}", one.name) } else { one.name.to_string() }
}

fn write_all(set: &Path, placed: &[&Placed<'_>], accounts: &Accounts) -> Result<(), String> {
    let wrong = |path: &Path, error: std::io::Error| format!("can't write {}: {error}", path.display());
    files::make_way(set).map_err(|error| wrong(set, error))?;
    for one in placed {
        let owned = one.owned;
        let owner = accounts
            .owner(&owned.owner, &owned.group, u32::from(owned.mode.bits()))
            .map_err(|why| format!("the secret `{}`: {why}", one.name))?;
        let path = set.join(name_of(one));
        let folder = path.parent().unwrap_or(set);
        files::make_way(folder).map_err(|error| wrong(folder, error))?;
        files::write_new(&path, one.bytes.expose(), owner).map_err(|error| wrong(&path, error))?;
    }
    Ok(())
}

fn write_hashes(folder: &Folder, hashes: &Hashes) -> Result<(), String> {
    let text = serde_json::to_vec(hashes).map_err(|error| error.to_string())?;
    files::put(&folder.sets.join(HASHES), &text, Owner::root(0o600)).map(drop)
}

/// Makes the links that secrets have elsewhere, takes away those of others, and writes down what is where.
fn take_stock(
    places: &Places,
    open: &Open<'_>,
    placed: &[&Placed<'_>],
    folder: &Folder,
    inventory: &mut Inventory,
) -> Result<(), String> {
    let mut links = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    for one in placed {
        let name = name_of(one);
        let at = folder.link.join(&name);
        let path = places.absolute(one.owned.path.as_str());
        if path != at {
            files::link(&at, &path)?;
            links.insert(path, at.clone());
        }
        secrets.insert(name, at);
    }
    let here = |path: &PathBuf| path.starts_with(&folder.link);
    inventory.links.retain(|path, target| {
        if here(target) && !links.contains_key(path) {
            if fs::read_link(path).is_ok_and(|to| to == *target) {
                let _ = fs::remove_file(path);
            }
            return false;
        }
        true
    });
    inventory.links.extend(links);
    let (came, went) = folder.turnover(&secrets.keys().cloned().collect(), inventory);
    inventory.came.extend(came);
    for name in went {
        inventory.secrets.remove(&name);
        inventory.went.insert(name);
    }
    inventory.secrets.extend(secrets);
    inventory.absent.extend(open.absent.clone());
    Ok(())
}

/// Has the switch that is under way restart and reload units, as far as the system has them.
///
/// # Errors
/// In words.
pub(crate) fn tell_switch(places: &Places, changes: &Changes) -> Result<(), String> {
    let lists = [("activation-restart-list", &changes.restart), ("activation-reload-list", &changes.reload)];
    for (list, units) in lists {
        if units.is_empty() {
            continue;
        }
        let path = places.run_nixos().join(list);
        let lines: String = units.iter().map(|unit| format!("{unit}\n")).collect();
        let file = fs::File::options().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|error| format!("can't write {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bosco_secrets::{Account, FilePath, Owned, Permissions, Secret, SecretName, UnitName};

    use super::*;
    use crate::places::testing::TempDir;

    fn owned(owner: &str, path: &str) -> Owned {
        Owned {
            owner: Account::parse(owner).unwrap(),
            group: Account::parse("root").unwrap(),
            mode: Permissions::parse("0440").unwrap(),
            path: FilePath::parse(path).unwrap(),
            restart_units: vec![UnitName::parse("app.service").unwrap()],
            reload_units: Vec::new(),
        }
    }

    fn with_open<T>(
        all: &[(&str, &str, &Owned)],
        needed_for_users: bool,
        does: impl FnOnce(&Open<'_>) -> T,
    ) -> T {
        let names: Vec<SecretName> = all.iter().map(|(name, ..)| SecretName::parse(name).unwrap()).collect();
        let placed = names.iter().zip(all).map(|(name, (_, text, owned))| Placed {
            name,
            bytes: Secret::new(text.as_bytes().to_vec()),
            owned,
            template: false,
            needed_for_users,
        });
        does(&Open { placed: placed.collect(), absent: BTreeMap::new() })
    }

    struct Host {
        dir: TempDir,
        places: Places,
        inventory: Inventory,
    }

    impl Host {
        fn new() -> Self {
            let dir = TempDir::new();
            let places = Places::below(dir.path());
            fs::create_dir_all(dir.path().join("run")).unwrap();
            Self { dir, places, inventory: Inventory::default() }
        }

        fn put(&mut self, all: &[(&str, &str, &Owned)]) -> Result<Changes, String> {
            with_open(all, false, |open| put(&self.places, open, false, &mut self.inventory))
        }

        /// Which units putting them would have to tell, and which secrets would come or go.
        fn preview(&self, all: &[(&str, &str, &Owned)], for_users: bool) -> Option<(usize, Vec<String>)> {
            let mut inventory = self.inventory.clone();
            inventory.came.clear();
            let changes = with_open(all, for_users, |open| preview(&self.places, open, &mut inventory))?;
            let names = inventory.came.into_iter().chain(inventory.went).collect();
            Some((changes.restart.len() + changes.reload.len(), names))
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.dir.path().join(path)).unwrap_or_default()
        }
    }

    #[test]
    fn all_secrets_change_together_or_none_does() {
        let mut host = Host::new();
        let (one, two) = (owned("root", "/run/secrets/a/one"), owned("root", "/etc/app/two"));
        let changes = host.put(&[("a/one", "1", &one), ("two", "2", &two)]).unwrap();
        assert_eq!(changes.restart.len(), 1);
        assert_eq!((host.read("run/secrets/a/one"), host.read("etc/app/two")), ("1".into(), "2".into()));
        let mode = fs::metadata(host.dir.path().join("run/secrets/a/one")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        assert!(host.put(&[("a/one", "1", &one), ("two", "2", &two)]).unwrap().restart.is_empty());

        let nobody = owned("no-such-user", "/run/secrets/three");
        let error = host.put(&[("a/one", "other", &one), ("three", "3", &nobody)]).unwrap_err();
        assert_eq!(error, "the secret `three`: there is no user `no-such-user` on this host");
        assert_eq!((host.read("run/secrets/a/one"), host.read("etc/app/two")), ("1".into(), "2".into()));

        host.inventory.came.clear();
        let changes = host.put(&[("a/one", "other", &one)]).unwrap();
        assert_eq!(changes.restart.len(), 1);
        assert_eq!(host.read("run/secrets/a/one"), "other");
        assert!(
            fs::symlink_metadata(host.dir.path().join("etc/app/two")).is_err(),
            "its link has gone with it"
        );
        assert_eq!(host.inventory.went.iter().collect::<Vec<_>>(), ["two"]);
        assert!(host.inventory.came.is_empty());
        let sets = fs::read_dir(host.dir.path().join("run/secrets.d")).unwrap().count();
        assert_eq!(sets, 2, "one set, and its hashes");
    }

    #[test]
    fn what_would_be_heard_of_is_known_before_anything_is_changed() {
        let mut host = Host::new();
        let heard = owned("root", "/run/secrets/heard");
        let silent = Owned { restart_units: Vec::new(), ..owned("root", "/run/secrets/silent") };
        let all = |one, other| [("heard", one, &heard), ("silent", other, &silent)];
        let both = vec!["heard".to_owned(), "silent".to_owned()];
        assert_eq!(host.preview(&all("1", "1"), false), Some((1, both)), "they come");
        host.put(&all("1", "1")).unwrap();
        assert_eq!(host.preview(&all("1", "1"), false), Some((0, vec![])));
        assert_eq!(host.preview(&all("1", "2"), false), Some((0, vec![])), "nobody wants to know");
        assert_eq!(host.preview(&all("2", "1"), false), Some((1, vec![])));
        assert_eq!(host.preview(&all("1", "1")[1..], false), Some((0, vec!["heard".into()])), "it goes");
        assert_eq!(host.preview(&all("1", "1")[..1], true), None, "users have to be made with it");
        assert_eq!(host.read("run/secrets/silent"), "1", "nothing was changed");
    }

    #[test]
    fn what_others_have_put_at_the_same_place_stays_where_the_system_declares_nothing() {
        let mut host = Host::new();
        host.dir.write("run/secrets.d/7/token", "of sops-nix");
        host.put(&[]).unwrap();
        assert_eq!(host.read("run/secrets.d/7/token"), "of sops-nix");
    }
}

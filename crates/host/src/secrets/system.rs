//! The secrets that a system declares, and its templates: a folder in memory for each time, of which a link says which holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bosco_secrets::sops;
use bosco_secrets::{Bundle, Changes, Declared, Hashes, NotPlaced, Placed, Trouble};

use super::accounts::Accounts;
use super::files::{self, Owner};
use super::identities::Identities;
use super::inventory::Inventory;
use super::{Rule, save, why};
use crate::places::Places;

/// Where secrets are found.
const SECRETS: &str = "/run/secrets";
/// Where those are that have to be there before users are made.
const FOR_USERS: &str = "/run/secrets-for-users";
/// Below either, where filled-in templates are.
const RENDERED: &str = "rendered";
/// What a template is called where it can't be had.
const TEMPLATE: &str = "the template";
/// The hashes of what was put in place last, in the same memory.
const HASHES: &str = "hashes.json";

/// Why secrets are not there, by their names below the folder.
type Reasons = BTreeMap<String, String>;

/// What is to be put in place, what is not there to be, and what can't be had though it should.
#[derive(Default)]
pub(crate) struct Open<'a> {
    placed: Vec<Placed<'a>>,
    absent: Reasons,
    failed: Reasons,
}

/// The same, and whose each of it is to be.
#[derive(Default)]
pub(crate) struct Ready<'a> {
    open: Open<'a>,
    owners: Vec<Owner>,
}

/// Opens what a system declares.
///
/// A bundle that is newer than the system may lack a secret that was revoked since: it is absent then, and that is an error of a
/// check only, whose bundle has come with the system.
///
/// # Errors
/// In words, with the secrets that can't be opened and why.
pub(crate) fn open<'a>(
    declared: &'a Declared,
    bundle: Option<&Bundle>,
    identities: &Identities,
    rule: Rule,
) -> Result<Open<'a>, String> {
    let Some(bundle) = bundle else {
        let why = "this host has not been brought any secrets yet; `bosco apply` brings them";
        let names = declared.secrets.iter().map(|secret| secret.name.to_string());
        return Ok(Open { absent: names.map(|name| (name, why.to_owned())).collect(), ..Open::default() });
    };
    let (placed, wrong) = bosco_secrets::secrets(declared, bundle, &identities.found);
    let mut open = Open { placed, ..Open::default() };
    let mut refused: Vec<NotPlaced> = Vec::new();
    for one in wrong {
        let is_absent = match &one.trouble {
            Trouble::NotCarried | Trouble::Sops { why: sops::Error::NoKey(_), .. } => true,
            Trouble::Needs(name) => open.absent.contains_key(name.as_str()),
            _ => false,
        };
        let name = if one.what == TEMPLATE { format!("{RENDERED}/{}", one.name) } else { one.name.clone() };
        match rule {
            Rule::Switch | Rule::Boot if is_absent => drop(open.absent.insert(name, one.trouble.to_string())),
            Rule::Boot => drop(open.failed.insert(name, one.trouble.to_string())),
            Rule::Whole | Rule::Switch => refused.push(one),
        }
    }
    if refused.is_empty() {
        return Ok(open);
    }
    let missing: String = identities.missing.iter().map(|why| format!("; {why}")).collect();
    Err(format!("{}{missing}", why(&refused)))
}

impl<'a> Open<'a> {
    /// Looks up whose all of it is, before any of it is written.
    ///
    /// # Errors
    /// In words, where one is nobody's. At a boot all others go on.
    pub(crate) fn owned(mut self, accounts: &Accounts, rule: Rule) -> Result<Ready<'a>, String> {
        let mut owners = Vec::new();
        for one in std::mem::take(&mut self.placed) {
            let owned = one.owned;
            match accounts.owner(&owned.owner, &owned.group, u32::from(owned.mode.bits())) {
                Ok(owner) => {
                    self.placed.push(one);
                    owners.push(owner);
                }
                Err(why) if rule == Rule::Boot => drop(self.failed.insert(name_of(&one), why)),
                Err(why) => return Err(format!("the secret `{}`: {why}", one.name)),
            }
        }
        Ok(Ready { open: self, owners })
    }
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

    /// What comes and goes where these names are to be there.
    fn turnover(&self, names: &BTreeSet<String>, inventory: &Inventory) -> (Vec<String>, Vec<String>) {
        let came = names.iter().filter(|name| !inventory.secrets.contains_key(*name)).cloned();
        let here = inventory.secrets.iter().filter(|(_, at)| at.starts_with(&self.link));
        let went = here.filter(|(name, _)| !names.contains(*name)).map(|(name, _)| name.clone());
        (came.collect(), went.collect())
    }
}

/// Writes down where links will be, so that none is left behind of which nobody knows.
pub(crate) fn expect(places: &Places, ready: &Ready<'_>, inventory: &mut Inventory) {
    for one in &ready.open.placed {
        let folder = Folder::of(places, one.needed_for_users);
        inventory.links.extend(link_of(places, one, &folder));
    }
}

/// Puts what is open in its place, all of it at once, and says what has changed.
///
/// # Errors
/// In words: what was there before still is, whole. At a boot what can't have its link is left out.
pub(crate) fn put(
    places: &Places,
    ready: &Ready<'_>,
    for_users: bool,
    rule: Rule,
    inventory: &mut Inventory,
) -> Result<Changes, String> {
    let folder = Folder::of(places, for_users);
    let Ready { open, owners } = ready;
    inventory.absent.extend(open.absent.clone());
    inventory.failed.extend(open.failed.clone());
    let all = open.placed.iter().zip(owners);
    let placed: Vec<(&Placed<'_>, &Owner)> =
        all.filter(|(one, _)| one.needed_for_users == for_users).collect();
    if placed.is_empty() {
        take_away(&folder, inventory);
        return Ok(Changes::default());
    }
    let before = folder.numbers();
    files::in_memory(places, &folder.sets)?;
    let number = before.iter().max().copied().unwrap_or_default() + 1;
    let set = folder.sets.join(number.to_string());
    inventory.half.insert(set.clone());
    save(places, rule, inventory)?;
    let mut made = write_all(&set, &placed);
    if made.is_ok() {
        made = make_links(places, &placed, &folder, rule, inventory);
    }
    if let Err(why) = made {
        take_half_away(&folder, inventory);
        return Err(why);
    }
    let (hashes, changes) = compared(open, for_users, &folder.hashes());
    files::link(&set, &folder.link)?;
    inventory.half.remove(&set);
    inventory.sets.insert(folder.link.clone(), set);
    for old in before {
        let _ = fs::remove_dir_all(folder.sets.join(old.to_string()));
    }
    write_hashes(&folder, &hashes)?;
    take_stock(places, &placed, &folder, inventory);
    Ok(changes)
}

/// Whether something has been put there since the boot.
pub(crate) fn is_there(places: &Places, for_users: bool, inventory: &Inventory) -> bool {
    inventory.sets.contains_key(&Folder::of(places, for_users).link)
}

/// Takes away all that was put there, where a system declares nothing.
pub(crate) fn take_all_away(places: &Places, inventory: &mut Inventory) {
    take_away(&Folder::of(places, true), inventory);
    take_away(&Folder::of(places, false), inventory);
    inventory.absent.clear();
    inventory.failed.clear();
}

/// Takes away what was put into a folder. What somebody else has put in its place stays, sops-nix for example.
fn take_away(folder: &Folder, inventory: &mut Inventory) {
    take_half_away(folder, inventory);
    let is_ours = match inventory.sets.remove(&folder.link) {
        Some(set) => {
            let _ = fs::remove_dir_all(&set);
            let _ = fs::remove_file(folder.sets.join(HASHES));
            fs::read_link(&folder.link).is_ok_and(|to| to == set)
        }
        // A boot has taken it away, and not the links there.
        None => fs::symlink_metadata(&folder.link).is_err(),
    };
    if is_ours {
        let _ = fs::remove_file(&folder.link);
    }
    inventory.links.retain(|path, target| {
        let here = target.starts_with(&folder.link);
        if here && is_ours {
            files::remove_link(target, path);
        }
        !here
    });
    let (_, went) = folder.turnover(&BTreeSet::new(), inventory);
    for name in went {
        inventory.secrets.remove(&name);
        inventory.went.insert(name);
    }
}

/// Takes away sets that somebody has begun with who was cut short.
fn take_half_away(folder: &Folder, inventory: &mut Inventory) {
    inventory.half.retain(|set| {
        let here = set.starts_with(&folder.sets);
        if here {
            let _ = fs::remove_dir_all(set);
        }
        !here
    });
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

fn write_all(set: &Path, placed: &[(&Placed<'_>, &Owner)]) -> Result<(), String> {
    let wrong = |path: &Path, error: std::io::Error| format!("can't write {}: {error}", path.display());
    files::make_way(set).map_err(|error| wrong(set, error))?;
    for (one, owner) in placed {
        let path = set.join(name_of(one));
        let folder = path.parent().unwrap_or(set);
        files::make_way(folder).map_err(|error| wrong(folder, error))?;
        files::write_new(&path, one.bytes.expose(), **owner).map_err(|error| wrong(&path, error))?;
    }
    Ok(())
}

/// The link that a secret has elsewhere than in the folder, and where it leads.
fn link_of(places: &Places, one: &Placed<'_>, folder: &Folder) -> Option<(PathBuf, PathBuf)> {
    let (path, at) = (places.absolute(one.owned.path.as_str()), folder.link.join(name_of(one)));
    (path != at).then_some((path, at))
}

/// Makes the links that secrets have elsewhere.
fn make_links(
    places: &Places,
    placed: &[(&Placed<'_>, &Owner)],
    folder: &Folder,
    rule: Rule,
    inventory: &mut Inventory,
) -> Result<(), String> {
    for (one, _) in placed {
        let Some((path, at)) = link_of(places, one, folder) else { continue };
        match files::link(&at, &path) {
            Ok(()) => {}
            Err(why) if rule == Rule::Boot => drop(inventory.failed.insert(name_of(one), why)),
            Err(why) => return Err(why),
        }
        inventory.links.insert(path, at);
    }
    Ok(())
}

fn write_hashes(folder: &Folder, hashes: &Hashes) -> Result<(), String> {
    let text = serde_json::to_vec(hashes).map_err(|error| error.to_string())?;
    files::put(&folder.sets.join(HASHES), &text, Owner::root(0o600)).map(drop)
}

/// Takes away the links of what is not there any more, and writes down what is where.
fn take_stock(places: &Places, placed: &[(&Placed<'_>, &Owner)], folder: &Folder, inventory: &mut Inventory) {
    let links: BTreeSet<PathBuf> =
        placed.iter().filter_map(|(one, _)| link_of(places, one, folder)).map(|(path, _)| path).collect();
    inventory.links.retain(|path, target| {
        let stays = !target.starts_with(&folder.link) || links.contains(path);
        if !stays {
            files::remove_link(target, path);
        }
        stays
    });
    let secrets: BTreeMap<String, PathBuf> =
        placed.iter().map(|(one, _)| (name_of(one), folder.link.join(name_of(one)))).collect();
    let (came, went) = folder.turnover(&secrets.keys().cloned().collect(), inventory);
    inventory.came.extend(came);
    for name in went {
        inventory.secrets.remove(&name);
        inventory.went.insert(name);
    }
    inventory.secrets.extend(secrets);
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
        does: impl FnOnce(Open<'_>) -> T,
    ) -> T {
        let names: Vec<SecretName> = all.iter().map(|(name, ..)| SecretName::parse(name).unwrap()).collect();
        let placed = names.iter().zip(all).map(|(name, (_, text, owned))| Placed {
            name,
            bytes: Secret::new(text.as_bytes().to_vec()),
            owned,
            template: false,
            needed_for_users,
        });
        does(Open { placed: placed.collect(), ..Open::default() })
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
            self.put_by(Rule::Switch, all)
        }

        fn put_by(&mut self, rule: Rule, all: &[(&str, &str, &Owned)]) -> Result<Changes, String> {
            let accounts = Accounts::of(&self.places);
            with_open(all, false, |open| {
                put(&self.places, &open.owned(&accounts, rule)?, false, rule, &mut self.inventory)
            })
        }

        /// Which units putting them would have to tell, and which secrets would come or go.
        fn preview(&self, all: &[(&str, &str, &Owned)], for_users: bool) -> Option<(usize, Vec<String>)> {
            let mut inventory = self.inventory.clone();
            inventory.came.clear();
            let changes = with_open(all, for_users, |open| preview(&self.places, &open, &mut inventory))?;
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

    #[test]
    fn at_a_boot_what_can_be_had_is_there_and_the_rest_says_why_it_is_not() {
        let mut host = Host::new();
        host.dir.write("etc/folder/x", "");
        let (one, nobody) = (owned("root", "/run/secrets/one"), owned("no-such-user", "/run/secrets/two"));
        let linked = owned("root", "/etc/folder");
        let all = [("one", "1", &one), ("two", "2", &nobody), ("three", "3", &linked)];
        host.put(&all[..2]).unwrap_err();
        host.put(&[all[0], all[2]]).unwrap_err();
        assert_eq!(host.read("run/secrets/one"), "", "a switch is whole");
        host.put_by(Rule::Boot, &all).unwrap();
        assert_eq!((host.read("run/secrets/one"), host.read("run/secrets/three")), ("1".into(), "3".into()));
        let of = |name: &str| host.inventory.present(name).unwrap_err();
        assert_eq!(of("two"), "`two` is not there: there is no user `no-such-user` on this host");
        assert!(of("three").contains("can't make the link"));
        host.inventory.present("one").unwrap();
    }

    #[test]
    fn a_system_without_secrets_leaves_none_and_takes_none_of_others() {
        let mut host = Host::new();
        let (one, two) = (owned("root", "/run/secrets/one"), owned("root", "/var/lib/two"));
        let there = |host: &Host, path: &str| fs::symlink_metadata(host.dir.path().join(path)).is_ok();
        host.put(&[("one", "1", &one), ("two", "2", &two)]).unwrap();
        take_all_away(&host.places, &mut host.inventory);
        for path in ["run/secrets", "run/secrets.d/1", "run/secrets.d/hashes.json", "var/lib/two"] {
            assert!(!there(&host, path), "{path}");
        }
        assert!(host.inventory.is_empty() && host.inventory.secrets.is_empty());

        host.put(&[("one", "1", &one), ("two", "2", &two)]).unwrap();
        host.dir.write("run/secrets.d/9/two", "of sops-nix");
        let link = host.dir.path().join("run/secrets");
        files::link(&host.dir.path().join("run/secrets.d/9"), &link).unwrap();
        take_all_away(&host.places, &mut host.inventory);
        assert_eq!(host.read("var/lib/two"), "of sops-nix");
        assert!(!there(&host, "run/secrets.d/1"));
        // Half a set of who was cut short.
        host.dir.write("run/secrets.d/10/one", "1");
        host.inventory.half.insert(host.dir.path().join("run/secrets.d/10"));
        take_all_away(&host.places, &mut host.inventory);
        assert!(!there(&host, "run/secrets.d/10") && there(&host, "run/secrets.d/9"));
    }
}

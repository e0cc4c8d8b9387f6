//! `deployment.keys`: files at places of their own, in memory as a rule, for systems of any kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bosco_secrets::{Bundle, Key, PlacedKey, UploadAt};

use super::accounts::Accounts;
use super::files::{self, Owner};
use super::identities::Identities;
use super::inventory::Inventory;
use super::{Rule, why};
use crate::places::Places;

/// Where keys are that say nothing else, which NixOS has in memory.
const RUN_KEYS: &str = "/run/keys";

/// A key that is open, and whose it is to be.
pub(crate) struct Ready<'a> {
    key: PlacedKey<'a>,
    owner: Owner,
}

/// Opens the keys of a bundle, and looks up whose they are. `early`: those for before the activation only, which are root's where
/// the system has still to make their users. What can't be had at a boot goes into `failed`.
///
/// # Errors
/// In words, with the keys' names, where one can't be opened or is nobody's: none is then.
pub(crate) fn ready<'a>(
    bundle: &'a Bundle,
    early: bool,
    identities: &Identities,
    accounts: &Accounts,
    rule: Rule,
    failed: &mut BTreeMap<String, String>,
) -> Result<Vec<Ready<'a>>, String> {
    let (open, wrong) = bosco_secrets::keys(bundle, &identities.found);
    if !wrong.is_empty() && rule != Rule::Boot {
        return Err(format!("{}; {}", why(&wrong), identities.words()));
    }
    failed.extend(wrong.into_iter().map(|one| (one.name, one.trouble.to_string())));
    let mut ready = Vec::new();
    for open in open.into_iter().filter(|open| !early || open.key.upload_at == UploadAt::PreActivation) {
        let Key { user, group, permissions, .. } = open.key;
        let mode = u32::from(permissions.bits());
        match accounts.owner(user, group, mode) {
            Ok(owner) => ready.push(Ready { key: open, owner }),
            Err(_) if early => ready.push(Ready { key: open, owner: Owner::root(mode) }),
            Err(why) if rule == Rule::Boot => {
                failed.insert(open.name.to_string(), why);
            }
            Err(why) => return Err(format!("the key `{}`: {why}", open.name)),
        }
    }
    Ok(ready)
}

/// Writes down where keys will be, so that nothing is left behind of which nobody knows.
pub(crate) fn expect(places: &Places, keys: &[Ready<'_>], inventory: &mut Inventory) {
    inventory.perhaps.extend(keys.iter().map(|Ready { key, .. }| place(places, key.key)));
    inventory.perhaps.extend(inventory.keys.values().cloned());
}

/// Puts keys in their places.
///
/// # Errors
/// In words; some are in their places then, and none is half there. At a boot all others are.
pub(crate) fn put(
    places: &Places,
    keys: &[Ready<'_>],
    rule: Rule,
    inventory: &mut Inventory,
) -> Result<(), String> {
    for Ready { key: PlacedKey { name, key, bytes }, owner } in keys {
        let path = place(places, key);
        let put = in_memory(places, key).and_then(|()| files::put(&path, bytes.expose(), *owner));
        match put {
            Ok(true) => drop(inventory.came.insert(name.to_string())),
            Ok(false) => {}
            Err(why) if rule == Rule::Boot => {
                inventory.failed.insert(name.to_string(), why);
                continue;
            }
            Err(why) => return Err(why),
        }
        inventory.keys.insert(name.to_string(), path);
    }
    Ok(())
}

fn in_memory(places: &Places, key: &Key) -> Result<(), String> {
    let folder = places.absolute(key.dest_dir.as_str());
    if key.dest_dir.as_str() != RUN_KEYS || files::is_mounted(&folder) {
        return Ok(());
    }
    files::in_memory(places, &folder)
}

/// What putting those in their places, and nothing else, would bring and take away.
pub(crate) fn preview(places: &Places, bundle: &Bundle, inventory: &mut Inventory) {
    let is_new = |key: &Key| fs::symlink_metadata(place(places, key)).is_err();
    let came = bundle.keys().iter().filter(|(_, key)| is_new(key));
    inventory.came.extend(came.map(|(name, _)| name.to_string()));
    let gone = others(places, Some(bundle), inventory);
    inventory.went.extend(gone);
}

/// Takes away what was put there before, or may have been, and that a bundle does not have any more.
pub(crate) fn remove_others(places: &Places, bundle: Option<&Bundle>, inventory: &mut Inventory) {
    for name in others(places, bundle, inventory) {
        inventory.perhaps.extend(inventory.keys.remove(&name));
        inventory.went.insert(name);
    }
    let keys = bundle.into_iter().flat_map(|bundle| bundle.keys().values());
    let stay: BTreeSet<PathBuf> = keys.map(|key| place(places, key)).collect();
    for path in std::mem::take(&mut inventory.perhaps) {
        if !stay.contains(&path) {
            files::remove(&path);
        }
    }
}

/// The names of what was put somewhere before, and that a bundle does not have there.
fn others(places: &Places, bundle: Option<&Bundle>, inventory: &Inventory) -> Vec<String> {
    let stays = |name: &str, is: &Path| {
        let key = bundle.and_then(|bundle| bundle.keys().iter().find(|(key, _)| key.as_str() == name));
        key.is_some_and(|(_, key)| place(places, key) == is)
    };
    let all = inventory.keys.iter();
    all.filter(|(name, path)| !stays(name, path)).map(|(name, _)| name.clone()).collect()
}

fn place(places: &Places, key: &Key) -> PathBuf {
    places.absolute(key.dest_dir.as_str()).join(key.file_name.as_str())
}

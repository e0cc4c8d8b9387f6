//! `deployment.keys`: files at places of their own, in memory as a rule, for systems of any kind.

use std::fs;
use std::path::{Path, PathBuf};

use bosco_secrets::{Bundle, Key, PlacedKey, UploadAt};

use super::accounts::Accounts;
use super::files::{self, Owner};
use super::identities::Identities;
use super::inventory::Inventory;
use super::why;
use crate::places::Places;

/// Where keys are that say nothing else, which NixOS has in memory.
const RUN_KEYS: &str = "/run/keys";

/// Opens the keys of a bundle: all, or those for before or after the activation.
///
/// # Errors
/// In words, with the keys' names, where one can't be opened: none is then.
pub(crate) fn open<'a>(
    bundle: &'a Bundle,
    at: Option<UploadAt>,
    identities: &Identities,
) -> Result<Vec<PlacedKey<'a>>, String> {
    let (mut open, failed) = bosco_secrets::keys(bundle, &identities.found);
    if !failed.is_empty() {
        return Err(format!("{}; {}", why(&failed), identities.words()));
    }
    open.retain(|key| at.is_none_or(|at| key.key.upload_at == at));
    Ok(open)
}

/// Puts open keys in their places. Before a system that makes their users they are root's, where `early`.
///
/// # Errors
/// In words; some are in their places then, and none is half there.
pub(crate) fn put(
    places: &Places,
    keys: &[PlacedKey<'_>],
    early: bool,
    inventory: &mut Inventory,
) -> Result<(), String> {
    let accounts = Accounts::of(places);
    let root = Owner::root(0);
    for PlacedKey { name, key, bytes } in keys {
        let mode = u32::from(key.permissions.bits());
        let owner = match accounts.owner(&key.user, &key.group, mode) {
            Ok(owner) => owner,
            Err(_) if early => Owner { mode, ..root },
            Err(why) => return Err(format!("the key `{name}`: {why}")),
        };
        let folder = places.absolute(key.dest_dir.as_str());
        if key.dest_dir.as_str() == RUN_KEYS && !files::is_mounted(&folder) {
            files::in_memory(places, &folder)?;
        }
        let path = place(places, key);
        if files::put(&path, bytes.expose(), owner)? {
            inventory.came.insert(name.to_string());
        }
        // It may have been somewhere else.
        let old = inventory.keys.insert(name.to_string(), path.clone()).filter(|old| *old != path);
        if let Some(old) = old {
            let _ = fs::remove_file(old);
        }
    }
    Ok(())
}

/// What putting those in their places, and nothing else, would bring and take away.
pub(crate) fn preview(places: &Places, bundle: &Bundle, inventory: &mut Inventory) {
    let is_new = |key: &Key| fs::symlink_metadata(place(places, key)).is_err();
    let came = bundle.keys().iter().filter(|(_, key)| is_new(key));
    inventory.came.extend(came.map(|(name, _)| name.to_string()));
    let gone = others(places, Some(bundle), inventory);
    inventory.went.extend(gone);
}

/// Takes away what was put there before, and that a bundle does not have any more.
pub(crate) fn remove_others(places: &Places, bundle: Option<&Bundle>, inventory: &mut Inventory) {
    for name in others(places, bundle, inventory) {
        if let Some(path) = inventory.keys.remove(&name) {
            let _ = fs::remove_file(path);
            inventory.went.insert(name);
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

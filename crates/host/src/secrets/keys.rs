//! `deployment.keys`: files at places of their own, in memory as a rule, for systems of any kind.

use std::fs;
use std::path::Path;

use bosco_secrets::{Account, Bundle, Key, Secret, UploadAt, unseal};
use rustix::fs::{Gid, Uid};

use super::accounts::Accounts;
use super::files::{self, Owner};
use super::identities::Identities;
use super::placed::Placed;
use crate::places::Places;

/// Where keys are that say nothing else, which NixOS has in memory.
const RUN_KEYS: &str = "/run/keys";

/// A key that is open, and what is declared of it.
pub(crate) struct Open<'a> {
    name: &'a str,
    key: &'a Key,
    bytes: Secret,
}

/// Opens the keys of a bundle: all, or those for before or after the activation.
///
/// # Errors
/// In words, with the key's name, where one can't be opened: none is then.
pub(crate) fn open<'a>(
    bundle: &'a Bundle,
    at: Option<UploadAt>,
    identities: &Identities,
) -> Result<Vec<Open<'a>>, String> {
    let wanted = bundle.keys().iter().filter(|(_, key)| at.is_none_or(|at| key.upload_at == at));
    wanted
        .map(|(name, key)| {
            let sealed = bundle.files().get(&key.file).map(|file| file.data.as_slice()).unwrap_or_default();
            let bytes = unseal(sealed, &identities.found).map_err(|error| {
                format!("the key `{name}` can't be opened: {error}; {}", identities.words())
            })?;
            Ok(Open { name: name.as_str(), key, bytes })
        })
        .collect()
}

/// Puts open keys in their places. Before a system that makes their users they are root's, where `early`.
///
/// # Errors
/// In words; some are in their places then, and none is half there.
pub(crate) fn put(
    places: &Places,
    keys: &[Open<'_>],
    early: bool,
    placed: &mut Placed,
) -> Result<(), String> {
    let accounts = Accounts::of(places);
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    for Open { name, key, bytes } in keys {
        let owner = match owner(&accounts, &key.user, &key.group) {
            Ok(owner) => owner,
            Err(_) if early => root,
            Err(why) => return Err(format!("the key `{name}`: {why}")),
        };
        let folder = places.absolute(key.dest_dir.as_str());
        if key.dest_dir.as_str() == RUN_KEYS && !files::is_mounted(&folder) {
            files::in_memory(places, &folder)?;
        }
        let path = folder.join(key.file_name.as_str());
        let owner = Owner { user: owner.0, group: owner.1, mode: u32::from(key.permissions.bits()) };
        if files::put(&path, bytes.expose(), owner)? {
            placed.came.insert((*name).to_owned());
        }
        placed.keys.insert((*name).to_owned(), path);
    }
    Ok(())
}

fn owner(accounts: &Accounts, user: &Account, group: &Account) -> Result<(Uid, Gid), String> {
    Ok((accounts.user(user)?, accounts.group(group)?))
}

/// Takes away what was put there before, and that a bundle does not have any more.
pub(crate) fn remove_others(places: &Places, bundle: Option<&Bundle>, placed: &mut Placed) {
    let path = |key: &Key| places.absolute(key.dest_dir.as_str()).join(key.file_name.as_str());
    let stays = |name: &str, is: &Path| {
        let key = bundle.and_then(|bundle| bundle.keys().iter().find(|(key, _)| key.as_str() == name));
        key.is_some_and(|(_, key)| path(key) == is)
    };
    let gone: Vec<String> =
        placed.keys.iter().filter(|(name, path)| !stays(name, path)).map(|(name, _)| name.clone()).collect();
    for name in gone {
        if let Some(path) = placed.keys.remove(&name) {
            let _ = fs::remove_file(path);
            placed.went.insert(name);
        }
    }
}

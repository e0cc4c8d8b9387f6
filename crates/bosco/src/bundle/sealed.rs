//! What was sealed before, so that the same key for the same host stays the same bytes: sealing anew gives others each time,
//! and a host whose secrets have not changed is to be left alone.
//!
//! In a file of the operator's own for each host, known like each key in it by a keyed hash of what it was made from: whoever
//! sees them learns nothing of what is in them, not even whether two hosts have the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bosco_model::HostName;
use bosco_secrets::{Recipient, SealError, Secret};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::state;

/// How long one is kept that is not used.
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);
/// How old the note of its last use may be.
const NOTED: u64 = 30 * 24 * 3600;
/// How much is kept for a host, in bytes, with what is not used any more.
const MOST: usize = 32 << 20;
/// The file with the key of the hashes.
const KEY: &str = "key";

/// To whom a host's keys are sealed.
pub(super) struct Seal<'a> {
    pub(super) host: &'a HostName,
    pub(super) recipients: &'a [Recipient],
}

/// What was sealed before. Where nothing can be kept, everything is sealed anew.
pub(super) struct Sealed {
    folder: Option<PathBuf>,
    key: OnceLock<Option<[u8; 32]>>,
}

/// What is kept of a host, by the hashes of what it was made from.
type OfHost = BTreeMap<String, One>;

#[derive(Clone, Serialize, Deserialize)]
struct One {
    /// When it was used last, or up to a month before that, in seconds since 1970.
    used: u64,
    /// In base64.
    sealed: String,
}

impl Default for Sealed {
    fn default() -> Self {
        Self::at(state::folder().map(|state| state.join("sealed")))
    }
}

impl Sealed {
    fn at(folder: Option<PathBuf>) -> Self {
        Self { folder, key: OnceLock::new() }
    }

    /// For each of a host's keys, by name, what was sealed before or what `seal` makes of it.
    pub(super) fn get<'n>(
        &self,
        what: &Seal<'_>,
        keys: &[(&'n str, &Secret)],
        seal: impl Fn(&Secret) -> Result<Vec<u8>, SealError>,
    ) -> Result<Vec<Vec<u8>>, (&'n str, SealError)> {
        let seal = |(name, secret): &(&'n str, &Secret)| seal(secret).map_err(|error| (*name, error));
        let key = self.key.get_or_init(|| {
            let folder = self.folder.as_ref()?;
            let key = key(folder).ok();
            prune(folder);
            key
        });
        let (Some(folder), Some(key)) = (&self.folder, key) else { return keys.iter().map(seal).collect() };
        let path = folder.join(keyed(key, &[what.host.as_str().as_bytes()])).with_extension("json");
        let mut recipients: Vec<&str> = what.recipients.iter().map(Recipient::as_str).collect();
        recipients.sort_unstable();
        let recipients = recipients.join("\n");
        let hash = |(name, secret): &(&str, &Secret)| {
            let host = what.host.as_str().as_bytes();
            keyed(key, &[host, name.as_bytes(), recipients.as_bytes(), secret.expose()])
        };
        let hashes: Vec<String> = keys.iter().map(hash).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let before = parse(state::read(&path).ok().flatten());
        let mut sealed = Vec::new();
        let mut is_new = false;
        for (key, hash) in keys.iter().zip(&hashes) {
            let known = before.get(hash);
            let open = known.and_then(|one| BASE64_STANDARD.decode(&one.sealed).ok());
            is_new |= open.is_none() || known.is_none_or(|one| one.used + NOTED < now);
            sealed.push(open.map_or_else(|| seal(key), Ok)?);
        }
        if is_new {
            // All of a host at once, as each write waits for the disk. Where it fails, it is sealed anew next time, and that is all.
            let _ = state::change(&path, |bytes| {
                let mut all = parse(bytes);
                for (hash, sealed) in hashes.iter().zip(&mut sealed) {
                    let one = One { used: now, sealed: BASE64_STANDARD.encode(&*sealed) };
                    // Another bosco may have been a moment earlier.
                    match all.get_mut(hash).map(|other| (BASE64_STANDARD.decode(&other.sealed), other)) {
                        Some((Ok(theirs), other)) => {
                            *sealed = theirs;
                            other.used = now;
                        }
                        _ => drop(all.insert(hash.clone(), one)),
                    }
                }
                Ok(Some(serde_json::to_vec(&kept(all, now))?))
            });
        }
        Ok(sealed)
    }
}

/// What is still worth being kept: the newest, as far as there is room.
fn kept(all: OfHost, now: u64) -> OfHost {
    let mut all: Vec<(String, One)> = all.into_iter().collect();
    all.sort_by_key(|(_, one)| std::cmp::Reverse(one.used));
    let mut room = MOST;
    let fits = |(_, one): &(String, One)| {
        let left = room.checked_sub(one.sealed.len());
        room = left.unwrap_or_default();
        left.is_some() && one.used + KEPT.as_secs() > now
    };
    all.into_iter().take_while(fits).collect()
}

/// What is damaged was never there.
fn parse(bytes: Option<Vec<u8>>) -> OfHost {
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// A keyed hash of some parts, in hexadecimal digits.
fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> String {
    // An HMAC takes keys of any length.
    let Ok(mut hash) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of the hashes, which is made at its first use.
fn key(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(KEY);
    let read = || -> io::Result<Option<[u8; 32]>> {
        Ok(state::read(&path)?.and_then(|bytes| bytes.try_into().ok()))
    };
    if let Some(key) = read()? {
        return Ok(key);
    }
    state::change(&path, |before| {
        // Another bosco may have been a moment earlier.
        if before.is_some_and(|before| before.len() == 32) {
            return Ok(None);
        }
        let mut key = vec![0; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Some(key))
    })?;
    read()?.ok_or_else(|| io::Error::other("the key was not kept"))
}

/// Removes what has not been used for long.
fn prune(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
        if age > KEPT && entry.file_name() != KEY {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ADA: &str = "age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs";

    #[test]
    fn the_same_stays_the_same_bytes_and_anything_else_is_sealed_anew() {
        let folder = std::env::temp_dir().join(format!("bosco-sealed-{}/sealed", std::process::id()));
        let host = HostName::parse("web").unwrap();
        let recipients = [Recipient::parse(ADA).unwrap()];
        let seal = |name: &str, text: &str| {
            // As another run of bosco would.
            let sealed = Sealed::at(Some(folder.clone()));
            let secret = Secret::new(text.as_bytes().to_vec());
            let what = Seal { host: &host, recipients: &recipients };
            let made =
                sealed.get(&what, &[(name, &secret)], |one| bosco_secrets::seal(one.expose(), &recipients));
            made.unwrap().remove(0)
        };
        let first = seal("token", "hunter2");
        assert_eq!(seal("token", "hunter2"), first);
        assert_ne!(seal("token", "hunter3"), first);
        assert_ne!(seal("other", "hunter2"), first);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let bytes = fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{}", entry.path().display());
        }
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }

    #[test]
    fn all_keys_of_a_host_are_kept_by_one_write() {
        let folder = std::env::temp_dir().join(format!("bosco-sealed-once-{}", std::process::id()));
        let host = HostName::parse("web").unwrap();
        let recipients = [Recipient::parse(ADA).unwrap()];
        let names: Vec<String> = (0..50).map(|number| format!("key-{number}")).collect();
        let secret = Secret::new(b"hunter2".to_vec());
        let seal = |keys: &[(&str, &Secret)]| {
            let what = Seal { host: &host, recipients: &recipients };
            let sealed = Sealed::at(Some(folder.clone()));
            sealed.get(&what, keys, |one| bosco_secrets::seal(one.expose(), &recipients)).unwrap()
        };
        let all: Vec<(&str, &Secret)> = names.iter().map(|name| (name.as_str(), &secret)).collect();
        let first = seal(&all);
        let files = || {
            let entries = fs::read_dir(&folder).unwrap().flatten();
            entries.filter(|entry| entry.path().extension().is_some_and(|it| it == "json")).count()
        };
        assert_eq!(files(), 1);
        assert_eq!(seal(&all), first);
        // With some only, the others stay what they were.
        assert_eq!(seal(&all[..10]), first[..10]);
        assert_ne!(seal(&[("new", &secret)]), first[..1]);
        assert_eq!(seal(&all), first);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_used_no_more_makes_room_for_what_is() {
        let one = |used: u64, length: usize| One { used, sealed: "x".repeat(length) };
        let now = 2 * KEPT.as_secs();
        let all: OfHost = [
            ("old".to_owned(), one(1, 1)),
            ("new".to_owned(), one(now, MOST - 10)),
            ("before".to_owned(), one(now - 1, 20)),
        ]
        .into();
        assert_eq!(kept(all, now).into_keys().collect::<Vec<_>>(), ["new"]);
    }
}

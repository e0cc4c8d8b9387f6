//! What was sealed before, so that the same key for the same host stays the same bytes: sealing anew gives others each time,
//! and a host whose secrets have not changed is to be left alone.
//!
//! In files of the operator's own, each named by a keyed hash of what it was made from: whoever sees them learns nothing of
//! what is in them, not even whether two hosts have the same. None is synced, as there may be hundreds: each begins with the hash
//! of the rest, and one that a power cut has damaged is made anew.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bosco_model::HostName;
use bosco_secrets::{Recipient, SealError, Secret};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// How long one is kept that is not used.
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);
/// The longest that is read, in bytes.
const LONGEST: u64 = 4 << 20;
/// How long the hash is that a file begins with, in bytes.
const HASH: usize = 32;
/// The file with the key of the hashes.
const KEY: &str = "key";

/// What is sealed to whom.
pub(super) struct Seal<'a> {
    pub(super) host: &'a HostName,
    pub(super) name: &'a str,
    pub(super) recipients: &'a [Recipient],
}

/// What was sealed before. Where nothing can be kept, everything is sealed anew.
pub(super) struct Sealed {
    folder: Option<PathBuf>,
    key: OnceLock<Option<[u8; 32]>>,
}

impl Default for Sealed {
    fn default() -> Self {
        let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = from("XDG_STATE_HOME").or_else(|| Some(from("HOME")?.join(".local/state")));
        Self::at(state.map(|state| state.join("bosco/sealed")))
    }
}

impl Sealed {
    fn at(folder: Option<PathBuf>) -> Self {
        Self { folder, key: OnceLock::new() }
    }

    /// What was sealed before, or what `seal` makes.
    pub(super) fn get(
        &self,
        what: &Seal<'_>,
        plaintext: &Secret,
        seal: impl FnOnce() -> Result<Vec<u8>, SealError>,
    ) -> Result<Vec<u8>, SealError> {
        let Some(path) = self.path(what, plaintext) else { return seal() };
        if let Ok(sealed) = read(&path) {
            return Ok(sealed);
        }
        let sealed = seal()?;
        // It is sealed anew next time where this fails, and that is all.
        let _ = write(&path, &[&Sha256::digest(&sealed), sealed.as_slice()].concat(), Sync::Never);
        Ok(sealed)
    }

    fn path(&self, what: &Seal<'_>, plaintext: &Secret) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let key = self.key.get_or_init(|| {
            let key = key(folder).ok();
            prune(folder);
            key
        });
        let mut hash = Hmac::<Sha256>::new_from_slice(key.as_ref()?).ok()?;
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(what.host.as_str().as_bytes());
        add(what.name.as_bytes());
        let mut recipients: Vec<&str> = what.recipients.iter().map(Recipient::as_str).collect();
        recipients.sort_unstable();
        add(recipients.join("\n").as_bytes());
        add(plaintext.expose());
        let name: String = hash.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(folder.join(name))
    }
}

/// The key of the hashes, which is made at its first use.
fn key(folder: &Path) -> io::Result<[u8; 32]> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(KEY);
    let mut key = [0; 32];
    if !path.exists() {
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        write(&path, &key, Sync::Before)?;
    }
    // Another bosco may have been a moment earlier.
    File::open(&path)?.read_exact(&mut key)?;
    Ok(key)
}

/// Reads what was sealed before. What is not what was written is removed.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // So that it is kept: it is still in use.
    let _ = file.set_modified(SystemTime::now());
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    match bytes.split_at_checked(HASH) {
        Some((hash, sealed)) if *hash == *Sha256::digest(sealed) => Ok(sealed.to_vec()),
        _ => {
            let _ = fs::remove_file(path);
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// Whether what is in a file is on the disk before it has its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Before,
    Never,
}

/// Writes a file, whole, if there is none of that name.
fn write(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let making = path.with_extension(format!("{}.new", std::process::id()));
    let put = || -> io::Result<()> {
        let _ = fs::remove_file(&making);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&making)?;
        file.write_all(bytes)?;
        if sync == Sync::Before {
            file.sync_all()?;
        }
        // A link, unlike a new name, never takes the place of another's.
        match fs::hard_link(&making, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = put();
    let _ = fs::remove_file(&making);
    written
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
            let what = Seal { host: &host, name, recipients: &recipients };
            sealed.get(&what, &secret, || bosco_secrets::seal(secret.expose(), &recipients)).unwrap()
        };
        let first = seal("token", "hunter2");
        assert_eq!(seal("token", "hunter2"), first);
        assert_ne!(seal("token", "hunter3"), first);
        assert_ne!(seal("other", "hunter2"), first);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_name() != KEY {
                fs::write(entry.path(), "").unwrap();
            }
        }
        let anew = seal("token", "hunter2");
        assert_ne!(anew, first, "what is damaged is made anew");
        assert_eq!(seal("token", "hunter2"), anew);
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let bytes = fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{}", entry.path().display());
        }
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}

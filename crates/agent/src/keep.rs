//! What an agent must not forget, on the disk: whom it trusts, and how far it is. Writes are whole or not at all.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bosco_host::durable;
use bosco_release::{Digest, Number, Sealed, Trust};
use bosco_wire::api::Brought;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::build::Built;
use crate::schedule::{Last, Timer};

/// Whom the host trusts.
const TRUST: &str = "trust.json";
/// How far it is.
const PULL: &str = "pull.json";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// How far a host is with what it pulls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pull {
    /// The highest number that it has seen a good manifest with, and that manifest's leaf.
    pub(crate) seen: Option<(Number, Digest)>,
    /// The manifest that it goes by.
    pub(crate) sealed: Option<Sealed>,
    /// What to say to the hub next time.
    pub(crate) ratchet: Option<String>,
    /// What came of the last try.
    pub(crate) last: Option<Last>,
    /// What it has built itself.
    pub(crate) built: Option<Built>,
    /// When it has looked for newer inputs last, in seconds since 1970.
    pub(crate) updated: u64,
    /// The release that it has come to last.
    pub(crate) brought: Option<Brought>,
    /// The attempt that was reported last.
    pub(crate) reported: Option<String>,
    /// How many reports were given up for want of room.
    pub(crate) dropped: u64,
    /// When it has run by a timer, where it does.
    pub(crate) timer: Option<Timer>,
}

/// What became of a file that was to be read.
enum Found<T> {
    There(T),
    Missing,
    Wrong(String),
}

fn read<T: DeserializeOwned>(path: &Path) -> Found<T> {
    let text = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        fs::File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
        Ok(text)
    };
    match text() {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(value) => Found::There(value),
            Err(error) => Found::Wrong(error.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
        Err(error) => Found::Wrong(error.to_string()),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let text =
        serde_json::to_vec(value).map_err(|error| format!("{} can't be written: {error}", path.display()))?;
    durable::write(path, &text)
}

/// Makes the folder that an agent keeps its things in. It is root's to read.
///
/// # Errors
/// In words.
pub(crate) fn prepare(folder: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("can't make {}: {error}", folder.display()))
}

/// Where it is kept whom the host trusts.
pub(crate) fn trust_file(folder: &Path) -> PathBuf {
    folder.join(TRUST)
}

/// Whom the host trusts. `None`: it has not joined any hub.
///
/// # Errors
/// In words, where that can't be read: it must not be taken for somebody who trusts nobody yet.
pub(crate) fn trust(folder: &Path) -> Result<Option<Trust>, String> {
    let path = trust_file(folder);
    match read(&path) {
        Found::There(trust) => Ok(Some(trust)),
        Found::Missing => Ok(None),
        Found::Wrong(why) => Err(format!("can't read {}: {why}", path.display())),
    }
}

/// Keeps whom the host trusts.
///
/// # Errors
/// In words; it trusts whom it trusted before.
pub(crate) fn keep_trust(folder: &Path, trust: &Trust) -> Result<(), String> {
    write(&trust_file(folder), trust)
}

impl Pull {
    /// How far the host was. What can't be read is set aside, and told; it begins anew then, as its journal has the number
    /// below which it does not go.
    pub(crate) fn load(folder: &Path) -> (Self, Option<String>) {
        let path = folder.join(PULL);
        match read(&path) {
            Found::There(pull) => (pull, None),
            Found::Missing => (Self::default(), None),
            Found::Wrong(why) => {
                let _ = fs::rename(&path, path.with_extension("unreadable"));
                (Self::default(), Some(format!("can't read {}: {why}; it is set aside", path.display())))
            }
        }
    }

    /// Keeps how far the host is.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), String> {
        write(&folder.join(PULL), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn what_is_kept_is_there_again_and_what_is_broken_is_set_aside() {
        let dir = TempDir::new();
        assert_eq!(Pull::load(dir.path()), (Pull::default(), None));
        let pull = Pull { ratchet: Some("x".into()), dropped: 3, ..Pull::default() };
        pull.save(dir.path()).unwrap();
        assert_eq!(Pull::load(dir.path()), (pull, None));
        fs::write(dir.path().join(PULL), "{\"ratchet\": \"x").unwrap();
        let (pull, said) = Pull::load(dir.path());
        assert_eq!(pull, Pull::default());
        assert!(said.unwrap().contains("set aside"));
        assert!(dir.path().join("pull.unreadable").exists());
        assert_eq!(Pull::load(dir.path()), (Pull::default(), None));
    }

    #[test]
    fn broken_trust_is_not_taken_for_none() {
        let dir = TempDir::new();
        assert_eq!(trust(dir.path()), Ok(None));
        fs::write(dir.path().join(TRUST), "").unwrap();
        assert!(trust(dir.path()).is_err());
    }
}

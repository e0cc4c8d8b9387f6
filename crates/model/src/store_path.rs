//! Paths in the Nix store.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where every store path of a NixOS machine lies.
const STORE: &str = "/nix/store/";
/// The length of a store path's hash part, in characters of Nix's base 32.
const HASH: usize = 32;
/// The longest name of a store path (`MaxPathLen` in Nix's store-path.cc).
const MAX_NAME: usize = 211;

/// Why a text is not a store path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a store path: {why}")]
pub struct InvalidStorePath {
    text: String,
    why: &'static str,
}

/// A path directly below `/nix/store`: hash and name, nothing behind it.
///
/// The rules are those of `StorePath` in Nix's `path.cc`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePath(String);

impl StorePath {
    /// Reads a store path.
    ///
    /// # Errors
    /// [`InvalidStorePath`] where the text is not one, a path below one included.
    pub fn parse(text: &str) -> Result<Self, InvalidStorePath> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(InvalidStorePath { text: text.chars().take(300).collect(), why }),
        }
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the hash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[STORE.len() + HASH + 1..]
    }

    /// The first characters of the hash, and the name: enough for people to tell two apart.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}…-{}", &self.0[STORE.len()..STORE.len() + 7], self.name())
    }
}

impl AsRef<std::path::Path> for StorePath {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let Some(base) = text.strip_prefix(STORE) else { return Some("it does not begin with /nix/store/") };
    // Nix's base 32 has no e, o, u and t, so that hashes do not spell words.
    let is_hash = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'z') && !matches!(b, b'e' | b'o' | b'u' | b't');
    let bytes = base.as_bytes();
    if bytes.len() < HASH + 2 || !bytes[..HASH].iter().all(is_hash) || bytes[HASH] != b'-' {
        return Some("it has no hash of 32 characters followed by a name");
    }
    let name = &bytes[HASH + 1..];
    if name.len() > MAX_NAME {
        return Some("its name has more than 211 characters");
    }
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(b);
    if !name.iter().all(is_name) {
        return Some("its name has a character that store paths can't have");
    }
    if matches!(name, b"." | b"..") || name.starts_with(b".-") || name.starts_with(b"..-") {
        return Some("its name would be read as a directory");
    }
    None
}

impl TryFrom<String> for StorePath {
    type Error = InvalidStorePath;
    fn try_from(text: String) -> Result<Self, InvalidStorePath> {
        Self::parse(&text)
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.0
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A store path that says how to build another one: its name ends in `.drv`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DerivationPath(StorePath);

impl DerivationPath {
    /// As any store path.
    #[must_use]
    pub fn path(&self) -> &StorePath {
        &self.0
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<StorePath> for DerivationPath {
    fn as_ref(&self) -> &StorePath {
        &self.0
    }
}

impl TryFrom<String> for DerivationPath {
    type Error = InvalidStorePath;
    fn try_from(text: String) -> Result<Self, InvalidStorePath> {
        let path = StorePath::try_from(text)?;
        match path.name().strip_suffix(".drv") {
            Some(_) => Ok(Self(path)),
            None => Err(InvalidStorePath { text: path.0, why: "a derivation's name ends in .drv" }),
        }
    }
}

impl From<DerivationPath> for String {
    fn from(path: DerivationPath) -> Self {
        path.0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &str = "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-hello-2.12.1";

    #[test]
    fn a_store_path_gives_its_name() {
        let path = StorePath::parse(HELLO).unwrap();
        assert_eq!(path.name(), "hello-2.12.1");
        assert_eq!(path.short(), "10s5j3m…-hello-2.12.1");
    }

    #[test]
    fn only_a_path_directly_in_the_store_is_one() {
        for text in [
            "",
            "/nix/store/",
            "/nix/store/hello",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-hello/bin",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-..",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-a b",
            "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-hello",
            "/tmp/10s5j3mfdg22k1597x580qrhprnzcjwb-hello",
            "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-a'$(id)",
        ] {
            assert!(StorePath::parse(text).is_err(), "{text} was taken for a store path");
        }
    }

    #[test]
    fn a_derivation_is_told_by_its_ending() {
        assert!(DerivationPath::try_from(format!("{HELLO}.drv")).is_ok());
        assert!(DerivationPath::try_from(HELLO.to_owned()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_a_store_path_panic(text in "(/nix/store/)?\\PC{0,60}") {
            if let Ok(path) = StorePath::parse(&text) {
                prop_assert!(!path.name().is_empty());
            }
        }
    }
}

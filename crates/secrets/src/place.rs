//! The names and places of secrets: text that becomes paths and owners on a host, and so is checked once, here.

use std::fmt;

use bosco_model::shown;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name of a file on Linux, in bytes.
const MAX_COMPONENT: usize = 255;
/// The longest path, in bytes: well below what Linux takes, as a folder is put before it.
const MAX_PATH: usize = 1024;
/// How much of a text that is none an error shows, in characters.
const SHOWN: usize = 80;
/// The longest name of a user or a group, in bytes.
const MAX_ACCOUNT: usize = 64;

/// Why a text can't be a name or a place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` can't be {what}: {why}")]
pub struct InvalidPlace {
    text: String,
    what: &'static str,
    why: &'static str,
}

macro_rules! place {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Reads one.
            ///
            /// # Errors
            /// [`InvalidPlace`] where the text is not one.
            pub fn parse(text: &str) -> Result<Self, InvalidPlace> {
                $check(text).map_err(|why| InvalidPlace { text: shown(text, SHOWN), what: $what, why })?;
                Ok(Self(text.to_owned()))
            }

            /// It as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidPlace;
            fn try_from(text: String) -> Result<Self, InvalidPlace> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(place: $type) -> Self {
                place.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

place! {
    /// The name of a declared secret or template, which is also its place below the folder of secrets: names of files,
    /// with `/` between them as sops-nix allows it.
    SecretName, "the name of a secret", relative
}
place! {
    /// By what name a bundle knows a file of secrets: its path in the repository, or the name of a key.
    FileId, "the name of a file of secrets", relative
}
place! {
    /// The name of one file in a folder.
    FileName, "the name of a file", component
}
place! {
    /// A folder: absolute, and without `..`.
    Directory, "a folder for keys", absolute
}
place! {
    /// Where a file is to be: absolute, and without `..`.
    FilePath, "the path of a file", absolute
}
place! {
    /// The name of a unit of systemd.
    UnitName, "the name of a unit", unit
}
place! {
    /// A user or a group, by name or by number.
    Account, "a user or a group", account
}

/// Who may read and write a file: nine bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permissions(u16);

impl Permissions {
    /// Reads octal digits up to `0777`.
    ///
    /// # Errors
    /// [`InvalidPlace`].
    pub fn parse(text: &str) -> Result<Self, InvalidPlace> {
        let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let bits = if digits { u16::from_str_radix(text, 8).ok() } else { None };
        bits.filter(|bits| *bits <= 0o777).map(Self).ok_or_else(|| InvalidPlace {
            text: shown(text, SHOWN),
            what: "the permissions of a file",
            why: "they are octal digits up to 0777",
        })
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<Permissions> for String {
    fn from(permissions: Permissions) -> Self {
        permissions.to_string()
    }
}

impl TryFrom<String> for Permissions {
    type Error = InvalidPlace;
    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        Self::parse(&text)
    }
}

fn component(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty, or a part of it is");
    }
    if text.len() > MAX_COMPONENT {
        return Err("it is too long");
    }
    if text == "." || text == ".." {
        return Err("`.` and `..` would lead elsewhere");
    }
    if text.contains('/') {
        return Err("it has a `/`");
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    Ok(())
}

fn relative(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_PATH {
        return Err("it is too long");
    }
    text.split('/').try_for_each(component)
}

fn absolute(text: &str) -> Result<(), &'static str> {
    let Some(below) = text.strip_prefix('/') else { return Err("it has to begin with `/`") };
    relative(below)
}

fn unit(text: &str) -> Result<(), &'static str> {
    component(text)?;
    if text.starts_with('-') || text.chars().any(char::is_whitespace) {
        return Err("it begins with `-` or has a blank");
    }
    Ok(())
}

fn account(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_ACCOUNT {
        return Err("it is empty or too long");
    }
    if text.starts_with(['-', '.']) {
        return Err("it can't begin with `-` or `.`");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')) {
        return Err("it is made of letters, digits, `_`, `-`, `.` and `$`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_lead_elsewhere_is_no_place() {
        for text in ["", ".", "..", "/a", "a/", "a//b", "a/../b", "./a", "a\nb", "a\0", &"a".repeat(300)] {
            assert!(SecretName::parse(text).is_err(), "{text:?}");
        }
        assert!(SecretName::parse("postgres/password").is_ok());
        assert!(FileName::parse("a/b").is_err() && FileName::parse(".env").is_ok());
        for text in ["", "/", "run/keys", "/run/../etc", "/run/keys/", "//run"] {
            assert!(Directory::parse(text).is_err(), "{text:?}");
        }
        assert!(Directory::parse("/run/keys").is_ok());
        for text in ["", "-x", "a b", "a:b", "root\n", "a/b"] {
            assert!(Account::parse(text).is_err(), "{text:?}");
        }
        assert!(Account::parse("systemd-network").is_ok() && Account::parse("1000").is_ok());
    }

    #[test]
    fn permissions_are_nine_bits() {
        for text in ["", "1777", "4755", "8", "u=r", "00600", "-600", "+600"] {
            assert!(Permissions::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Permissions::parse("0600").unwrap().bits(), 0o600);
        assert_eq!(Permissions::parse("640").unwrap().to_string(), "0640");
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_its_folder(text in any::<String>()) {
            if let Ok(name) = SecretName::parse(&text) {
                let path = std::path::Path::new("/run/secrets").join(name.as_str());
                prop_assert!(path.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(path.starts_with("/run/secrets"));
            }
        }
    }
}

//! Profiles that a host has beside its system: root's others, and those of users. Each has generations of its own.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{DerivationPath, ProfileName, StorePath, UserName};

/// The profile of the system, which no other may be.
const SYSTEM: &str = "/nix/var/nix/profiles/system";
/// The longest place of a profile, in bytes.
const LONGEST: usize = 1000;

/// A profile beside the system: whose it is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What it is called among the profiles of its user.
    pub name: ProfileName,
    /// Who activates it.
    pub user: UserName,
    /// Where it is, where its source says that; else where profiles of that user and name are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<ProfilePlace>,
}

/// A profile, and what it is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileAt {
    /// Which one.
    #[serde(flatten)]
    pub profile: Profile,
    /// The store path that it names.
    pub path: StorePath,
}

/// A profile that a source declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredProfile {
    /// Which one, and what it should be.
    #[serde(flatten)]
    pub at: ProfileAt,
    /// What makes that.
    pub derivation: DerivationPath,
}

/// What is activated beside a system, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profiles {
    /// All of them.
    pub all: Vec<ProfileAt>,
    /// Whether the system is left as it is: the toplevel is only the first profile's path then, by which all is known.
    pub only: bool,
}

impl Profiles {
    /// None beside a system.
    pub const NONE: &'static Self = &Self { all: Vec::new(), only: false };

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether each of them is among these, with what it names.
    #[must_use]
    pub fn are_in(&self, has: &[ProfileAt]) -> bool {
        self.all.iter().all(|one| has.iter().any(|has| has.profile.is(&one.profile) && has.path == one.path))
    }

    /// What a host names of what it is known by: of profiles only, the first of them; else the system.
    #[must_use]
    pub fn known_by<'a>(&self, system: Option<&'a StorePath>, has: &'a [ProfileAt]) -> Option<&'a StorePath> {
        if !self.only {
            return system;
        }
        let first = self.all.first()?;
        has.iter().find(|has| has.profile.is(&first.profile)).map(|has| &has.path)
    }
}

impl Profile {
    /// Whether it is the same one, wherever it is.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.user == other.user
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.user.as_str() == "root" {
            write!(f, "profile {}", self.name)
        } else {
            write!(f, "{}'s profile {}", self.user, self.name)
        }
    }
}

/// Where a profile is, by a source's own words: an absolute path of plain characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfilePlace(String);

/// Why a text is not the place of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` can't be the place of a profile: that is an absolute path of letters, digits, `_`, `-`, `+` and `.`, and not the system's"
)]
pub struct InvalidPlace(String);

impl ProfilePlace {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProfilePlace {
    type Error = InvalidPlace;
    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
        let is_part = |part: &str| !part.is_empty() && part != ".." && part != "." && part.chars().all(plain);
        let sound = text.len() <= LONGEST
            && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
            && text != SYSTEM;
        if sound { Ok(Self(text)) } else { Err(InvalidPlace(text)) }
    }
}

impl From<ProfilePlace> for String {
    fn from(place: ProfilePlace) -> Self {
        place.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_plain_path_and_never_the_systems() {
        assert!(ProfilePlace::try_from("/srv/profiles/app-1".to_owned()).is_ok());
        for text in
            ["", "/", "app", "/srv//app", "/srv/../app", "/srv/a b", "/srv/$(x)", "/srv/app\n", SYSTEM]
        {
            assert!(ProfilePlace::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_profile_is_read_as_a_source_gives_it() {
        let text = format!(
            r#"{{"name":"app","user":"ada","place":null,"path":"/nix/store/{0}-app","derivation":"/nix/store/{0}-app.drv"}}"#,
            "0".repeat(32)
        );
        let read: DeclaredProfile = serde_json::from_str(&text).unwrap();
        assert_eq!(read.at.profile.to_string(), "ada's profile app");
        assert!(serde_json::from_str::<DeclaredProfile>(&text.replace("ada", "a;b")).is_err());
    }
}

//! What a host runs by a manifest: a system that somebody has built for it, profiles beside it or alone, or a system that it
//! builds itself.

use bosco_model::{Profile, ProfileAt, ProfileName, ProfilePlace, Profiles, StorePath, UserName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;

/// The most profiles that a host may have beside its system: the host is asked for all of them in one question.
pub const MAX_PROFILES: usize = 32;

/// What a host runs, and how it comes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Runs {
    /// A system that is built already.
    System {
        /// The system; of a host that gets profiles only, the first one's path.
        toplevel: StorePath,
        /// What is activated beside it, or alone.
        profiles: Profiles,
        /// What is in the closure of all that together: [`crate::Contents::digest`]. They are fetched together, activated
        /// together, and share most of what they need.
        closure: Digest,
    },
    /// What the host itself builds from this.
    Tree {
        /// Its directory of the tree, in the store.
        tree: StorePath,
        /// What is in that: [`crate::Contents::digest`].
        closure: Digest,
        /// Whether it may update the inputs of its flake by itself.
        self_update: bool,
        /// Whether it may reboot where only that brings the change in.
        reboot: bool,
    },
}

/// Why these can't be the profiles of a host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidProfiles {
    /// There are too many.
    #[error("a host has at most {MAX_PROFILES} profiles beside its system, this one has {0}")]
    TooMany(usize),
    /// One is there twice, or two are in one place.
    #[error("{0} is there twice")]
    Twice(Profile),
    /// There is to be no system, and no profile, or another one than the host is known by.
    #[error("it gets profiles only, and the first of them is not what it runs")]
    Nothing,
}

/// The same as a manifest has it: a field that is not known is refused, and what is not there needs no word.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Written {
    System {
        toplevel: StorePath,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        profiles: Vec<WrittenProfile>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        profiles_only: bool,
        closure: Digest,
    },
    Tree {
        tree: StorePath,
        closure: Digest,
        #[serde(default)]
        self_update: bool,
        #[serde(default)]
        reboot: bool,
    },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProfile {
    user: UserName,
    name: ProfileName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<ProfilePlace>,
    path: StorePath,
}

impl TryFrom<Written> for Runs {
    type Error = InvalidProfiles;

    fn try_from(written: Written) -> Result<Self, InvalidProfiles> {
        Ok(match written {
            Written::System { toplevel, profiles, profiles_only: only, closure } => {
                let at = |one: WrittenProfile| {
                    let WrittenProfile { user, name, place, path } = one;
                    ProfileAt { profile: Profile { name, user, place }, path }
                };
                let profiles = Profiles { all: profiles.into_iter().map(at).collect(), only };
                Self::can_have(&toplevel, &profiles)?;
                Self::System { toplevel, profiles, closure }
            }
            Written::Tree { tree, closure, self_update, reboot } => {
                Self::Tree { tree, closure, self_update, reboot }
            }
        })
    }
}

impl From<Runs> for Written {
    fn from(runs: Runs) -> Self {
        match runs {
            Runs::System { toplevel, profiles: Profiles { all, only }, closure } => {
                let written = |ProfileAt { profile, path }| {
                    let Profile { name, user, place } = profile;
                    WrittenProfile { user, name, place, path }
                };
                let profiles = all.into_iter().map(written).collect();
                Self::System { toplevel, profiles, profiles_only: only, closure }
            }
            Runs::Tree { tree, closure, self_update, reboot } => {
                Self::Tree { tree, closure, self_update, reboot }
            }
        }
    }
}

impl Runs {
    /// Whether a manifest can have these profiles beside that system, or alone: no host reads anything else.
    ///
    /// # Errors
    /// [`InvalidProfiles`].
    pub fn can_have(toplevel: &StorePath, profiles: &Profiles) -> Result<(), InvalidProfiles> {
        let Profiles { all, only } = profiles;
        if all.len() > MAX_PROFILES {
            return Err(InvalidProfiles::TooMany(all.len()));
        }
        for (at, ProfileAt { profile, .. }) in all.iter().enumerate() {
            let is_same = |other: &ProfileAt| {
                let at_one_place = profile.place.is_some() && profile.place == other.profile.place;
                profile.is(&other.profile) || at_one_place
            };
            if all.iter().take(at).any(is_same) {
                return Err(InvalidProfiles::Twice(profile.clone()));
            }
        }
        if *only && all.first().map(|one| &one.path) != Some(toplevel) {
            return Err(InvalidProfiles::Nothing);
        }
        Ok(())
    }

    /// What the host is known by: the system, or the tree, or of profiles only the first one's path.
    #[must_use]
    pub fn path(&self) -> &StorePath {
        match self {
            Self::System { toplevel: path, .. } | Self::Tree { tree: path, .. } => path,
        }
    }

    /// All that is to be fetched, each once: that, and the profiles.
    #[must_use]
    pub fn paths(&self) -> Vec<&StorePath> {
        let mut paths = vec![self.path()];
        for one in &self.profiles().all {
            if !paths.contains(&&one.path) {
                paths.push(&one.path);
            }
        }
        paths
    }

    /// What is activated beside the system, or alone.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        match self {
            Self::System { profiles, .. } => profiles,
            Self::Tree { .. } => Profiles::NONE,
        }
    }

    /// What is in the closure of all that is to be fetched.
    #[must_use]
    pub fn closure(&self) -> Digest {
        match self {
            Self::System { closure, .. } | Self::Tree { closure, .. } => *closure,
        }
    }

    /// What the host is to run, where the manifest says which; of profiles only, the first one's path.
    #[must_use]
    pub fn toplevel(&self) -> Option<&StorePath> {
        match self {
            Self::System { toplevel, .. } => Some(toplevel),
            Self::Tree { .. } => None,
        }
    }

    /// The system, where the manifest says which.
    #[must_use]
    pub fn system(&self) -> Option<&StorePath> {
        self.toplevel().filter(|_| !self.profiles().only)
    }

    /// Whether the host builds it.
    #[must_use]
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::Tree { .. })
    }
}

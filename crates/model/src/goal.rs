//! How far an apply goes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far an apply goes on each host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Build here, touch no host.
    Build,
    /// Build and copy, activate nothing.
    Push,
    /// Bring its secrets to the system that runs.
    Keys,
    /// Run the new system now and at every boot.
    Switch,
    /// Run the new system from the next boot on.
    Boot,
    /// Run the new system until the next boot.
    Test,
    /// Say what an activation would do, and do nothing.
    DryActivate,
}

impl Goal {
    /// All of them, in the order of how much they do.
    pub const ALL: [Self; 7] =
        [Self::Build, Self::Push, Self::Keys, Self::DryActivate, Self::Test, Self::Boot, Self::Switch];

    /// The word that the command line and `switch-to-configuration` have for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Push => "push",
            Self::Keys => "keys",
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::Test => "test",
            Self::DryActivate => "dry-activate",
        }
    }

    /// Whether it goes to the hosts at all.
    #[must_use]
    pub fn delivers(self) -> bool {
        self != Self::Build
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

//! What a host runs by a manifest: a system that somebody has built for it, or one that it builds itself.

use bosco_model::StorePath;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// What a host runs, and how it comes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Runs {
    /// A system that is built already.
    System {
        /// The system.
        toplevel: StorePath,
        /// What is in its closure: [`crate::Contents::digest`].
        closure: Digest,
    },
    /// What the host itself builds from this.
    Tree {
        /// Its directory of the tree, in the store.
        tree: StorePath,
        /// What is in that: [`crate::Contents::digest`].
        closure: Digest,
        /// Whether it may update the inputs of its flake by itself.
        #[serde(default)]
        self_update: bool,
        /// Whether it may reboot where only that brings the change in.
        #[serde(default)]
        reboot: bool,
    },
}

impl Runs {
    /// What is to be fetched: the system, or the tree.
    #[must_use]
    pub fn path(&self) -> &StorePath {
        match self {
            Self::System { toplevel: path, .. } | Self::Tree { tree: path, .. } => path,
        }
    }

    /// What is in the closure of that.
    #[must_use]
    pub fn closure(&self) -> Digest {
        match self {
            Self::System { closure, .. } | Self::Tree { closure, .. } => *closure,
        }
    }

    /// The system, where the manifest says which.
    #[must_use]
    pub fn toplevel(&self) -> Option<&StorePath> {
        match self {
            Self::System { toplevel, .. } => Some(toplevel),
            Self::Tree { .. } => None,
        }
    }

    /// Whether the host builds it.
    #[must_use]
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::Tree { .. })
    }
}

//! Whom a host trusts: who may sign for it, and which hub it listens to.

use bosco_model::FleetName;
use serde::{Deserialize, Serialize};

use crate::Key;

/// Whom one host trusts. It has a version that only grows, and is kept apart from the generations, so that an old one does
/// not bring a revoked key back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// The higher one holds.
    pub version: u64,
    /// The fleet that the host belongs to.
    pub fleet: FleetName,
    /// Who may sign releases for this host.
    pub signers: Vec<Signer>,
    /// Where its hub is, as `HOST:PORT`; empty where it is only pushed to.
    #[serde(default)]
    pub hub: String,
    /// The keys of that hub: more than one while one replaces the other.
    #[serde(default)]
    pub hub_keys: Vec<Key>,
}

/// Who may sign releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signer {
    /// What it is called: an operator's name, or `hub`.
    pub name: String,
    /// Its key.
    pub key: Key,
    /// What it is.
    pub kind: SignerKind,
}

/// What a signer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerKind {
    /// A person or a CI.
    Operator,
    /// The hub itself.
    Hub,
}

/// What a stolen hub could do to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// An operator or a CI builds and signs what it built: withhold updates, until they expire.
    OperatorBuilds,
    /// The hub builds, an operator signs: put other contents in what it builds.
    HubBuilds,
    /// The hub builds and signs: everything.
    HubSigns,
}

impl Level {
    /// The level of a fleet with these signers, where the hub builds or not.
    #[must_use]
    pub fn of<'a>(signers: impl IntoIterator<Item = &'a Signer>, hub_builds: bool) -> Self {
        if signers.into_iter().any(|signer| signer.kind == SignerKind::Hub) {
            Self::HubSigns
        } else if hub_builds {
            Self::HubBuilds
        } else {
            Self::OperatorBuilds
        }
    }

    /// What it means, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::OperatorBuilds => {
                "operators build and sign: a stolen hub could withhold updates, not install anything"
            }
            Self::HubBuilds => {
                "the hub builds, operators sign: a stolen hub could put other contents in what it builds"
            }
            Self::HubSigns => "the hub signs: whoever has it is root on every host",
        }
    }
}

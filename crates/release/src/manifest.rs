//! One host's part of a release.

use std::collections::BTreeSet;

use bosco_model::{FleetName, HostName, Tag};
use serde::{Deserialize, Serialize};

use crate::{Digest, Key, Number, Policy, Runs, Trust};

/// What one host should run, and all that it has to know of it. A field that a host does not know makes it refuse the whole:
/// what it can't do it must not pass over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The fleet.
    pub fleet: FleetName,
    /// The host; no other takes it.
    pub host: HostName,
    /// The host's own public keys: two while one replaces the other.
    pub keys: Vec<Key>,
    /// The number of the release.
    pub number: Number,
    /// What to run.
    pub runs: Runs,
    /// The bundle of its secrets: what is encrypted for it, known by its digest. `None`: it is to have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Digest>,
    /// What selectors know the host by.
    pub tags: BTreeSet<Tag>,
    /// When it updates by itself.
    pub policy: Policy,
    /// Whom it trusts from here on.
    pub trust: Trust,
    /// Holds with at most this number are lifted: the release contains what was pushed by them.
    #[serde(default)]
    pub lifts: Number,
}

impl Manifest {
    /// Whether a later one has no other effect on the host than this: all but its number is the same, and it lifts no hold that
    /// this one leaves.
    #[must_use]
    pub fn has_effect_of(&self, later: &Self) -> bool {
        later.lifts <= self.lifts && *self == Self { number: self.number, lifts: self.lifts, ..later.clone() }
    }
}

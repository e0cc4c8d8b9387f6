//! `bosco.toml`: how a fleet is run. It is read without evaluating anything, because it decides whom to trust.

use std::collections::{BTreeMap, BTreeSet};

use bosco_model::{FleetName, HostName, Selector, Tag};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Key, Signer, SignerKind, Trust};

/// How a fleet is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FleetFile {
    /// What the fleet is called.
    pub fleet: FleetName,
    /// The version of whom to trust: it grows with each change of hub, operators or their keys.
    #[serde(default = "one")]
    pub trust: u64,
    /// The hub, where there is one.
    #[serde(default)]
    pub hub: Option<HubFile>,
    /// How much of the hub's disk each host may use.
    #[serde(default)]
    pub quota: QuotaFile,
    /// Who may do something, by name.
    #[serde(default)]
    pub operators: BTreeMap<String, OperatorFile>,
}

/// The hub, as `bosco.toml` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HubFile {
    /// Where it listens: `HOST:PORT`.
    pub address: String,
    /// Its keys: two while one replaces the other.
    pub keys: Vec<Key>,
    /// Whether its key may sign releases, for every host.
    #[serde(default)]
    pub signs: bool,
}

/// How much of the hub's disk each host may use, in bytes and in numbers of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct QuotaFile {
    /// For its backups.
    pub backup: u64,
    /// The same, in files.
    pub backup_files: u64,
    /// For its logs.
    pub logs: u64,
    /// The same, in files.
    pub logs_files: u64,
}

impl Default for QuotaFile {
    fn default() -> Self {
        Self { backup: 100_000_000_000, backup_files: 1_000_000, logs: 1_000_000_000, logs_files: 10_000 }
    }
}

/// A person or a CI, as `bosco.toml` has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OperatorFile {
    /// Their keys.
    pub keys: Vec<Key>,
    /// For which hosts they may do what they may do.
    #[serde(default = "Selector::everything")]
    pub hosts: Selector,
    /// Whether they may sign releases.
    #[serde(default = "yes")]
    pub signs: bool,
}

/// What the hub is called as a signer.
const HUB: &str = "hub";
/// The same in words.
const THE_HUB: &str = "the hub";

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

/// What is wrong with a `bosco.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FleetFileError {
    /// It can't be read as one: where, and why.
    #[error("{0}")]
    Form(String),
    /// One key is two's.
    #[error("one key has two owners, {0} and {1}; a key says who somebody is")]
    SharedKey(String, String),
    /// A key could sign, and nobody could verify it.
    #[error(
        "{owner} may sign releases, and has a key which is {kind}: signatures are verified of ed25519 keys, ECDSA keys of 256 bits, and both on security keys; give another one, or set `signs = false`"
    )]
    CannotSign {
        /// Whose it is.
        owner: String,
        /// What it is, in words.
        kind: String,
    },
    /// Somebody is called what releases and reports call the hub.
    #[error("an operator can't be called `{0}`: it is what the hub is called")]
    Named(String),
    /// A hub has no key.
    #[error("`hub.keys` is empty; `bosco hub key` prints the hub's key")]
    NoHubKey,
    /// There is nobody who could sign anything.
    #[error("nobody may sign releases: give an operator a key, or set `hub.signs`")]
    NoSigner,
}

impl FleetFile {
    /// Reads one.
    ///
    /// # Errors
    /// [`FleetFileError`].
    pub fn parse(text: &str) -> Result<Self, FleetFileError> {
        let file: Self = toml::from_str(text).map_err(|error| FleetFileError::Form(error.to_string()))?;
        file.check()?;
        Ok(file)
    }

    /// What has to hold beyond its form.
    ///
    /// # Errors
    /// [`FleetFileError`].
    pub fn check(&self) -> Result<(), FleetFileError> {
        if let Some(name) = self.operators.keys().find(|name| [HUB, THE_HUB].contains(&name.as_str())) {
            return Err(FleetFileError::Named(name.clone()));
        }
        let mut owners: BTreeMap<&Key, &str> = BTreeMap::new();
        let hub_keys = self.hub.iter().flat_map(|hub| &hub.keys).map(|key| (key, THE_HUB));
        let operators = self.operators.iter();
        let keys = operators.flat_map(|(name, one)| one.keys.iter().map(move |key| (key, name.as_str())));
        for (key, owner) in hub_keys.chain(keys) {
            if let Some(other) = owners.insert(key, owner).filter(|other| *other != owner) {
                return Err(FleetFileError::SharedKey(other.into(), owner.into()));
            }
        }
        if self.hub.as_ref().is_some_and(|hub| hub.keys.is_empty()) {
            return Err(FleetFileError::NoHubKey);
        }
        if self.hub.is_some() && self.signers(|_| true).is_empty() {
            return Err(FleetFileError::NoSigner);
        }
        for Signer { name, key, .. } in self.all_signers() {
            if let Some(kind) = key.unverifiable() {
                return Err(FleetFileError::CannotSign { owner: name, kind });
            }
        }
        Ok(())
    }

    /// Everybody who may sign for hosts that their grant is asked about.
    fn signers(&self, grants: impl Fn(&Selector) -> bool) -> Vec<Signer> {
        let operators = self.operators.iter().filter(|(_, one)| one.signs && grants(&one.hosts));
        let operators = operators.flat_map(|(name, one)| {
            one.keys.iter().map(|key| Signer {
                name: name.clone(),
                key: key.clone(),
                kind: SignerKind::Operator,
            })
        });
        let hub = self.hub.iter().filter(|hub| hub.signs).flat_map(|hub| &hub.keys);
        let hub = hub.map(|key| Signer { name: HUB.into(), key: key.clone(), kind: SignerKind::Hub });
        operators.chain(hub).collect()
    }

    /// Everybody who may sign for some host.
    #[must_use]
    pub fn all_signers(&self) -> Vec<Signer> {
        self.signers(|_| true)
    }

    /// Whom a host trusts, by this file.
    #[must_use]
    pub fn trust_of(&self, host: &HostName, tags: &BTreeSet<Tag>) -> Trust {
        let hub = self.hub.as_ref();
        Trust {
            version: self.trust,
            fleet: self.fleet.clone(),
            signers: self.signers(|grant| grant.matches(host, tags)),
            hub: hub.map(|hub| hub.address.clone()).unwrap_or_default(),
            hub_keys: hub.map(|hub| hub.keys.clone()).unwrap_or_default(),
        }
    }
}

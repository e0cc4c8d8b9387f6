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
    /// How long the hub keeps what.
    #[serde(default)]
    pub retention: RetentionFile,
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
    /// Whether it builds what operators evaluate.
    #[serde(default)]
    pub builds: bool,
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

/// How long the hub keeps what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RetentionFile {
    /// The closures of how many of the newest releases; the releases themselves stay.
    pub releases: u32,
    /// Reports, in days; the last ones of each host stay.
    pub reports_days: u64,
    /// What hosts have put into their logs, in days.
    pub logs_days: u64,
    /// Backups, logs and reports of a host that has left, in days.
    pub gone_days: u64,
}

impl Default for RetentionFile {
    fn default() -> Self {
        Self { releases: 10, reports_days: 90, logs_days: 90, gone_days: 30 }
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
    /// By what they read the secrets of these hosts, `age1…` or `ssh-ed25519 …`; nothing where it is empty. Without it, by
    /// those of their keys that can.
    #[serde(default)]
    pub recipients: Option<Vec<String>>,
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
    /// It is not what it should be.
    #[error("{}{why}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Unreadable {
        /// Where.
        line: Option<usize>,
        /// In words.
        why: String,
    },
    /// The hub's address is none.
    #[error("`hub.address` is `{0}`, and has to be `HOST:PORT`")]
    NoAddress(String),
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
    #[error("`hub.keys` is empty")]
    NoHubKey,
    /// There is nobody who could sign anything.
    #[error("nobody may sign releases: no operator has a key for it, and `hub.signs` is not set")]
    NoSigner,
}

impl FleetFileError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "docs/pull.md says which keys there are, and what they take",
            Self::NoAddress(_) => "for example `hub.example.org:2222`, or `[2001:db8::1]:2222`",
            Self::SharedKey(..) => "remove it from one of them",
            Self::CannotSign { .. } => "`signs = false` leaves them everything else",
            Self::Named(_) => "call them otherwise",
            Self::NoHubKey => "`bosco hub key` prints it, on the hub",
            Self::NoSigner => "a hub without signers could not give its hosts anything that they take",
        }
    }
}

impl HubFile {
    /// The address in its parts: the host, without the brackets of an IPv6 address, and the port.
    #[must_use]
    pub fn place(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_one = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.starts_with('-') && host.chars().all(is_host_character),
        };
        let port = port.parse().ok().filter(|port| *port > 0);
        port.filter(|_| is_one).map(|port| (bare.unwrap_or(host), port))
    }
}

/// Whether a character may stand in the name or IPv4 address of a machine.
fn is_host_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

impl FleetFile {
    /// Reads the text of a `bosco.toml`, and checks it.
    ///
    /// # Errors
    /// [`FleetFileError`].
    pub fn parse(text: &str) -> Result<Self, FleetFileError> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().and_then(|span| text.get(..span.start));
            let line = line.map(|before| before.matches('\n').count() + 1);
            FleetFileError::Unreadable { line, why: error.message().to_owned() }
        })?;
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
        if let Some(hub) = self.hub.as_ref().filter(|hub| hub.place().is_none()) {
            return Err(FleetFileError::NoAddress(hub.address.clone()));
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

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const ADA: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2ZAkfj3ewrgQqVYgTMkYbVnMfmGpTI1DcmmZq9HyNv ada@laptop";

    #[test]
    fn a_file_says_whom_a_host_trusts() {
        let text = format!(
            "fleet = \"home\"\ntrust = 3\n[hub]\naddress = \"hub:2222\"\nkeys = [\"{HUB}\"]\n\
             [operators.ada]\nkeys = [\"{ADA}\"]\nhosts = \"web-*\"\n"
        );
        let file = FleetFile::parse(&text).unwrap();
        let of = |host| file.trust_of(&HostName::parse(host).unwrap(), &BTreeSet::new());
        assert_eq!(of("web-1").signers.len(), 1);
        assert!(of("db").signers.is_empty(), "the grant does not go so far");
        assert_eq!((of("db").hub.as_str(), of("db").version), ("hub:2222", 3));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, says) in [
            ("fleet = \"home\"\n[hub]\nadress = \"x\"\n", "line 3: unknown field `adress`"),
            ("fleet = \"home\"\n\n[operators.ada]\nkeys = [\"ssh-rsa nonsense\"]\n", "line 4: "),
            ("fleet = home\n", "line 1: "),
            ("", "missing field `fleet`"),
            (
                &format!("fleet = \"home\"\n[hub]\naddress = \"hub\"\nkeys = [\"{HUB}\"]\n"),
                "`hub.address` is `hub`",
            ),
            (
                &format!("fleet = \"home\"\n[hub]\naddress = \"hub:22\"\nkeys = [\"{HUB}\"]\n"),
                "nobody may sign",
            ),
        ] {
            let said = FleetFile::parse(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn an_address_is_a_host_with_a_port() {
        let place = |address: &str| {
            let hub = HubFile { address: address.into(), keys: Vec::new(), signs: false, builds: false };
            hub.place().map(|(host, port)| (host.to_owned(), port))
        };
        assert_eq!(place("hub.example.org:2222"), Some(("hub.example.org".into(), 2222)));
        assert_eq!(place("[2001:db8::1]:22"), Some(("2001:db8::1".into(), 22)));
        for bad in ["hub", "hub:0", "-oProxyCommand=x:22", ":22", "a b:22", "2001:db8::1:22", "[x]:22"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}

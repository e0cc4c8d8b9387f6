//! Who can read what: files with their recipients, hosts with their keys, operators. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bosco_model::{HostName, Selector, Tag};
use bosco_secrets::Recipient;
use bosco_secrets::sops::Format;
use serde::Serialize;

use super::format;
use super::rules::Named;
use crate::hub::Unproven;

/// Whoever opens what is encrypted to this key: a recipient in its `age1…` form, so that an SSH key and what is derived
/// from it are one; as it stands where it is of a kind that bosco does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Reader(String);

impl Reader {
    pub(crate) fn of(text: &str) -> Self {
        Recipient::parse(text)
            .map_or_else(|_| Self(text.trim().to_owned()), |recipient| Self::from(&recipient))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Recipient> for Reader {
    fn from(recipient: &Recipient) -> Self {
        Self(recipient.age_form().as_str().to_owned())
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that is known of a fleet's secrets without opening any.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) hosts: BTreeMap<HostName, HostKeys>,
    /// Who `bosco.toml` says are operators. Without any, whom `.sops.yaml` names is taken for one.
    pub(crate) operators: BTreeMap<String, Operator>,
    /// Whom the fleet's own part of `.sops.yaml` names, with the name there.
    pub(crate) named: BTreeMap<Reader, Named>,
    /// The sops files, by their paths from the fleet's root, and why one can't be read.
    pub(crate) files: BTreeMap<String, Result<Kept, String>>,
    pub(crate) asked: Vec<Asked>,
}

/// The keys of a host.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostKeys {
    pub(crate) tags: BTreeSet<Tag>,
    /// Its present one, and the next one where it has one.
    pub(crate) readers: Vec<Reader>,
    /// Why those that it declares can't be read.
    pub(crate) invalid: Option<String>,
    /// Those of them that the hub alone names: no file is encrypted to one that is not already.
    pub(crate) unproven: BTreeMap<Reader, Unproven>,
}

/// Who may do something, and reads its secrets.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// For which hosts.
    pub(crate) hosts: Selector,
    pub(crate) readers: Vec<Reader>,
    /// Those of them that are SSH keys, as they are: what is encrypted to such a key itself sops opens with it, and what is
    /// encrypted to its `age1…` form only with what `ssh-to-age` makes of the private key.
    pub(crate) ssh: BTreeMap<Reader, String>,
}

/// A sops file.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) format: Format,
    pub(crate) readers: BTreeSet<Reader>,
    /// Who opens it besides by something that is not age's: `pgp FINGERPRINT`.
    pub(crate) others: Vec<String>,
    /// Whether several have to open it together.
    pub(crate) groups: bool,
    /// The values in it, as a secret's `key` has them.
    pub(crate) names: Vec<String>,
}

/// A secret that a host's configuration asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) host: HostName,
    pub(crate) name: String,
    /// The file, from the fleet's root; `Err` is the path of one that is not below it.
    pub(crate) file: Result<String, String>,
    pub(crate) key: String,
    pub(crate) format: String,
}

impl Asked {
    /// Whether it is all of its file.
    pub(crate) fn is_whole(&self) -> bool {
        format(&self.format).is_none_or(|format| format.is_whole(&self.key))
    }

    /// Whether a value of its file is in it.
    pub(crate) fn takes(&self, value: &str) -> bool {
        self.is_whole() || self.key == value
    }
}

/// Who a reader is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who<'a> {
    Host(&'a HostName),
    Operator(&'a str),
    /// Nobody that the fleet knows, by the name that `.sops.yaml` has for the key, if any.
    Unknown(Option<&'a str>),
}

impl Book {
    pub(crate) fn who(&self, reader: &Reader) -> Who<'_> {
        let host = self.hosts.iter().find(|(_, keys)| keys.readers.contains(reader));
        let operator = || self.operators.iter().find(|(_, one)| one.readers.contains(reader));
        match host {
            Some((name, _)) => Who::Host(name),
            None => match operator() {
                Some((name, _)) => Who::Operator(name),
                None => Who::Unknown(self.named.get(reader).and_then(|named| named.name.as_deref())),
            },
        }
    }

    /// To what is encrypted for somebody to read it.
    pub(crate) fn recipient<'a>(&'a self, reader: &'a Reader) -> &'a str {
        let ssh = self.operators.values().find_map(|one| one.ssh.get(reader));
        ssh.map_or(reader.as_str(), String::as_str)
    }

    /// What to call a reader in a list.
    pub(crate) fn name(&self, reader: &Reader) -> String {
        match self.who(reader) {
            Who::Host(name) => name.to_string(),
            Who::Operator(name) => name.to_owned(),
            Who::Unknown(Some(name)) => format!("{name} ({})", shortened(reader)),
            Who::Unknown(None) => shortened(reader),
        }
    }

    /// Whether a reader is somebody of the fleet.
    pub(crate) fn knows(&self, reader: &Reader) -> bool {
        match self.who(reader) {
            Who::Host(_) | Who::Operator(_) => true,
            Who::Unknown(_) => self.operators.is_empty() && self.named.contains_key(reader),
        }
    }

    /// The secrets that are asked for from a file.
    pub(crate) fn asked_of<'a>(&'a self, file: &'a str) -> impl Iterator<Item = &'a Asked> {
        self.asked.iter().filter(move |asked| asked.file.as_deref() == Ok(file))
    }

    /// The operators that have a host, with their readers.
    pub(crate) fn operators_of<'a>(
        &'a self,
        host: &'a HostName,
    ) -> impl Iterator<Item = (&'a String, &'a Operator)> {
        let none = BTreeSet::new();
        let tags = self.hosts.get(host).map_or(none, |keys| keys.tags.clone());
        self.operators.iter().filter(move |(_, one)| one.hosts.matches(host, &tags))
    }

    /// All values that somebody with any of these keys can read, by their files: asked for or not.
    pub(crate) fn readable(&self, keys: &[Reader]) -> BTreeMap<&str, &Kept> {
        let files = self.files.iter().filter_map(|(file, kept)| Some((file.as_str(), kept.as_ref().ok()?)));
        files.filter(|(_, kept)| keys.iter().any(|key| kept.readers.contains(key))).collect()
    }
}

/// As much of a key as tells it from others.
fn shortened(reader: &Reader) -> String {
    let text = reader.as_str();
    match text.char_indices().nth(16) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a host can read, for a list.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) host: HostName,
    pub(crate) file: String,
    /// The secrets that its configuration takes from it.
    pub(crate) asks_for: Vec<String>,
    pub(crate) can_read: bool,
    /// The values in it.
    pub(crate) keys: Vec<String>,
    /// The other hosts that can read it.
    pub(crate) hosts: Vec<HostName>,
    pub(crate) operators: Vec<String>,
    /// Keys that are nobody's, or those of other kinds than age's.
    pub(crate) others: Vec<String>,
}

/// What hosts can read, and what they ask for and can't.
pub(crate) fn lines(book: &Book, hosts: &BTreeSet<HostName>) -> Vec<Line> {
    let mut lines = Vec::new();
    for host in hosts {
        let keys = book.hosts.get(host).cloned().unwrap_or_default().readers;
        let mut files: BTreeSet<&str> = book.readable(&keys).into_keys().collect();
        files.extend(
            book.asked
                .iter()
                .filter(|asked| asked.host == *host)
                .filter_map(|asked| asked.file.as_deref().ok()),
        );
        for file in files {
            let kept = book.files.get(file).and_then(|kept| kept.as_ref().ok());
            let readers = || kept.iter().flat_map(|kept| &kept.readers);
            let mut line = Line {
                host: host.clone(),
                file: file.to_owned(),
                asks_for: book.asked_of(file).filter(|a| a.host == *host).map(|a| a.name.clone()).collect(),
                can_read: readers().any(|reader| keys.contains(reader)),
                keys: kept.map(|kept| kept.names.clone()).unwrap_or_default(),
                hosts: Vec::new(),
                operators: Vec::new(),
                others: kept.map(|kept| kept.others.clone()).unwrap_or_default(),
            };
            for reader in readers() {
                match book.who(reader) {
                    Who::Host(other) if other == host || line.hosts.contains(other) => {}
                    Who::Host(other) => line.hosts.push(other.clone()),
                    Who::Operator(name) if line.operators.iter().any(|one| one == name) => {}
                    Who::Operator(name) => line.operators.push(name.to_owned()),
                    Who::Unknown(_) => line.others.push(book.name(reader)),
                }
            }
            line.hosts.sort();
            line.operators.sort();
            lines.push(line);
        }
    }
    lines
}

//! A file, and what is in it once it is open.

use std::fmt;
use std::io::Read as _;

use age::armor::ArmoredReader;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::cipher::{DataKey, is_encrypted, is_encrypted_comment};
use super::metadata::{self, Metadata};
use super::tree::{Item, Map, Value};
use super::{Error, Format, dotenv, ini, json, yaml};
use crate::{Identity, Secret, UnsealError, unseal};

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 4 << 20;
/// The longest data key, encrypted by age, in bytes.
const MAX_ENCRYPTED_KEY: u64 = 64 << 10;
/// What the MAC begins with where it is over the encrypted values only, so that it is another one.
pub(super) const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// A file that sops has encrypted.
pub struct File {
    format: Format,
    pub(super) metadata: Metadata,
    values: Map,
}

/// Somebody to whom a file is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// What kind of key: `age`, or one that bosco can't use, such as `pgp` or `kms`.
    pub kind: &'static str,
    /// Which one, as the file has it: a recipient of age's, a fingerprint, an ARN.
    pub name: String,
}

impl fmt::Display for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = super::shown(&self.name);
        if self.kind == "age" { f.write_str(&name) } else { write!(f, "{} {name}", self.kind) }
    }
}

impl File {
    /// Reads a file, and opens nothing.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotSops`] where nothing is wrong with it but that sops has not encrypted it.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE {
            return Err(Error::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| Error::syntax(format, &error))?;
        let mut values = match format {
            Format::Yaml => yaml::read(text)?,
            Format::Json | Format::Binary => json::read(text)?,
            Format::Dotenv => dotenv::read(text)?,
            Format::Ini => ini::read(text)?,
        };
        let metadata = match format {
            Format::Dotenv => prefixed(&mut values),
            _ => match values.take("sops") {
                Some(Value::Map(map)) => Some(map),
                Some(_) => return Err(Error::Metadata("`sops` is not a map".into())),
                None => None,
            },
        };
        let mut metadata = metadata.ok_or(Error::NotSops)?;
        if matches!(format, Format::Dotenv | Format::Ini) {
            metadata = metadata::unflatten(with_lines(metadata))?;
        }
        values.bounded()?;
        Ok(Self { format, metadata: Metadata::read(&metadata)?, values })
    }

    /// The form that it has.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// To whom it is encrypted.
    #[must_use]
    pub fn recipients(&self) -> Vec<MasterKey> {
        let keys = self.metadata.groups.iter().flatten();
        keys.map(|key| MasterKey { kind: key.kind, name: key.name.clone() }).collect()
    }

    /// Whether it has a MAC: without one it is not opened.
    #[must_use]
    pub fn has_mac(&self) -> bool {
        self.metadata.mac.is_some()
    }

    /// The values that are in it, as [`Opened::extract`] takes them: keys, and the indexes of lists, with `/` between them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        each_of_map(&self.values, "", &mut |name, _| names.push(name.to_owned()));
        names
    }

    /// Opens it with any of the identities. Each value is decrypted, and the MAC is checked.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(&self, identities: &[Identity]) -> Result<Opened, Error> {
        let key = self.data_key(identities)?;
        self.open_with(&key)
    }

    fn data_key(&self, identities: &[Identity]) -> Result<DataKey, Error> {
        let recipients = || self.recipients().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.metadata.groups.len() > 1 {
            let groups = u64::try_from(self.metadata.groups.len()).unwrap_or(u64::MAX);
            return Err(Error::KeyGroups(self.metadata.threshold.unwrap_or(groups), recipients()));
        }
        let mut damaged = None;
        for master in self.metadata.groups.iter().flatten().filter(|master| master.kind == "age") {
            let mut sealed = Vec::new();
            if let Err(why) =
                ArmoredReader::new(master.enc.as_bytes()).take(MAX_ENCRYPTED_KEY).read_to_end(&mut sealed)
            {
                damaged = Some(Error::DataKey(super::shown(&why.to_string())));
                continue;
            }
            match unseal(&sealed, identities) {
                Ok(key) => match DataKey::new(key.expose()) {
                    Some(key) => return Ok(key),
                    None => damaged = Some(Error::DataKey("it has not 32 bytes".into())),
                },
                Err(UnsealError::NotForUs) => {}
                Err(why) => damaged = Some(Error::DataKey(why.to_string())),
            }
        }
        let ours = || match identities {
            [] => "there is no key here".to_owned(),
            _ => {
                let ours: Vec<_> = identities.iter().map(|identity| identity.recipient().as_str()).collect();
                format!("the keys here are those of {}", ours.join(", "))
            }
        };
        Err(damaged.unwrap_or_else(|| Error::NotForUs { recipients: recipients(), ours: ours() }))
    }

    /// Opens it with its data key.
    pub(super) fn open_with(&self, key: &DataKey) -> Result<Opened, Error> {
        let mac = self.metadata.mac.as_deref().ok_or(Error::NoMac)?;
        let mac = key.open(mac, &self.metadata.last_modified).map_err(|_| Error::WrongMac)?;
        let mut walk = Walk {
            key,
            metadata: &self.metadata,
            hash: Sha512::new(),
            path: Vec::new(),
            place: String::new(),
            named: 0,
        };
        if self.metadata.mac_only_encrypted {
            walk.hash.update(ONLY_ENCRYPTED);
        }
        let values = walk.map(&self.values)?;
        let found: String = walk.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        if mac.as_str() != Some(&found) {
            return Err(Error::WrongMac);
        }
        Ok(Opened { format: self.format, values })
    }
}

/// Takes out what begins with `sops_`, and the prefix from it.
fn prefixed(values: &mut Map) -> Option<Map> {
    let mut metadata = Map::default();
    let all = std::mem::take(&mut values.0);
    for item in all {
        match item {
            Item::Entry(key, value) => match key.strip_prefix("sops_") {
                Some(key) => metadata.0.push(Item::Entry(key.to_owned(), value)),
                None => values.0.push(Item::Entry(key, value)),
            },
            Item::Comment(_) => values.0.push(item),
        }
    }
    (!metadata.0.is_empty()).then_some(metadata)
}

/// Sops has `\n` in the metadata of an ini where lines end.
fn with_lines(map: Map) -> Map {
    let entry = |item| match item {
        Item::Entry(key, value) => {
            let value = value.as_str().map(|text| Value::text(&text.replace("\\n", "\n"))).unwrap_or(value);
            Item::Entry(key, value)
        }
        comment @ Item::Comment(_) => comment,
    };
    Map(map.0.into_iter().map(entry).collect())
}

/// Goes through all values, by their names.
fn each_of_map<'m>(map: &'m Map, before: &str, tell: &mut impl FnMut(&str, &'m Value)) {
    for (key, value) in map.entries() {
        each_of(value, &format!("{before}{key}"), tell);
    }
}

fn each_of<'m>(value: &'m Value, path: &str, tell: &mut impl FnMut(&str, &'m Value)) {
    match value {
        Value::Map(map) => each_of_map(map, &format!("{path}/"), tell),
        Value::List(list) => {
            let comment = |item: &&Value| item.as_str().is_some_and(is_encrypted_comment);
            for (index, item) in list.iter().filter(|item| !comment(item)).enumerate() {
                each_of(item, &format!("{path}/{index}"), tell);
            }
        }
        leaf => tell(path, leaf),
    }
}

/// The way through all values, in the order of the file.
struct Walk<'a> {
    key: &'a DataKey,
    metadata: &'a Metadata,
    hash: Sha512,
    /// The keys on the way to where it is.
    path: Vec<&'a str>,
    /// What a value there is bound to: each key on the way to it, with a `:` behind.
    place: String,
    /// How many of these keys the rule names.
    named: usize,
}

impl<'a> Walk<'a> {
    fn map(&mut self, map: &'a Map) -> Result<Map, Error> {
        let mut opened = Map(Vec::with_capacity(map.0.len()));
        for item in &map.0 {
            opened.0.push(match item {
                Item::Entry(key, value) => {
                    // Once for each key, and not for each value below it.
                    let names = usize::from(self.metadata.rule.names(key));
                    let before = self.place.len();
                    self.path.push(key);
                    self.place.push_str(key);
                    self.place.push(':');
                    self.named += names;
                    let value = self.value(value)?;
                    self.named -= names;
                    self.place.truncate(before);
                    self.path.pop();
                    Item::Entry(key.clone(), value)
                }
                Item::Comment(comment) => {
                    let comment = std::str::from_utf8(comment).unwrap_or_default();
                    Item::Comment(self.comment(comment)?)
                }
            });
        }
        Ok(opened)
    }

    fn value(&mut self, value: &'a Value) -> Result<Value, Error> {
        match value {
            Value::Map(map) => self.map(map).map(Value::Map),
            Value::List(list) => {
                let mut opened = Vec::with_capacity(list.len());
                for item in list {
                    // The indexes of a list are no part of the place.
                    match item.as_str().filter(|text| is_encrypted_comment(text)) {
                        Some(comment) => drop(self.comment(comment)?),
                        None => opened.push(self.value(item)?),
                    }
                }
                Ok(Value::List(opened))
            }
            Value::Null => Ok(Value::Null),
            leaf => self.leaf(leaf),
        }
    }

    fn leaf(&mut self, value: &Value) -> Result<Value, Error> {
        let encrypted = self.metadata.rule.encrypts(self.named > 0, value);
        let opened = if encrypted {
            let wrong =
                |why: &str| Error::Value { path: super::shown(&self.path.join("/")), why: why.to_owned() };
            let text = value.as_str().ok_or_else(|| wrong("it is not encrypted"))?;
            self.key.open(text, &self.place).map_err(wrong)?
        } else {
            value.clone()
        };
        if encrypted || !self.metadata.mac_only_encrypted {
            self.hash.update(opened.bytes().unwrap_or_default().as_slice());
        }
        Ok(opened)
    }

    /// A comment may be encrypted or not: sops takes both, and so the MAC does not hold for it.
    fn comment(&self, comment: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        if !is_encrypted(comment) {
            return Ok(Zeroizing::new(comment.as_bytes().to_vec()));
        }
        let wrong = |why: &str| Error::Value { path: "a comment".into(), why: why.to_owned() };
        // Outside of all keys, sops has the `:` alone.
        let place = if self.place.is_empty() { ":" } else { &self.place };
        Ok(self.key.open(comment, place).map_err(wrong)?.bytes().unwrap_or_default())
    }
}

/// What was in a file. Nothing of it is shown, and its text is overwritten when it goes.
pub struct Opened {
    format: Format,
    pub(super) values: Map,
}

impl Opened {
    /// One value: by its keys with `/` between them, as sops-nix has it, and by an index in a list. Its text where it is
    /// a text, else as YAML has it.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::NotOneValue`].
    pub fn extract(&self, path: &str) -> Result<Secret, Error> {
        let none = || Error::NoKey(super::shown(path));
        let mut keys = path.split('/');
        let mut value = keys.next().and_then(|key| self.values.get(key)).ok_or_else(none)?;
        for key in keys {
            let next = match value {
                Value::Map(map) => map.get(key),
                Value::List(list) => key.parse().ok().and_then(|index: usize| list.get(index)),
                _ => None,
            };
            value = next.ok_or_else(none)?;
        }
        text_of(value).ok_or_else(|| Error::NotOneValue(super::shown(path)))
    }

    /// What a secret with this key is: one value, or all of the file where [`Format::is_whole`] says so.
    ///
    /// # Errors
    /// Those of [`Opened::extract`] and [`Opened::whole`].
    pub fn value(&self, key: &str) -> Result<Secret, Error> {
        if self.format.is_whole(key) { self.whole() } else { self.extract(key) }
    }

    /// Every value that has a text, by its name: what [`Opened::extract`] gives for each of [`File::names`], at once.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Secret)> {
        let mut values = Vec::new();
        each_of_map(&self.values, "", &mut |name, value| {
            values.extend(text_of(value).map(|text| (name.to_owned(), text)));
        });
        values
    }

    /// All of it, in the form that it had before sops encrypted it: bytes where it was binary, else the same values in
    /// the same order.
    ///
    /// # Errors
    /// [`Error::NotUtf8`], [`Error::NoKey`] where a binary file has no `data`.
    pub fn whole(&self) -> Result<Secret, Error> {
        match self.format {
            Format::Yaml => yaml::write(&self.values).map(Secret::new),
            Format::Json => json::write(&self.values).map(Secret::new),
            Format::Dotenv => Ok(Secret::new(dotenv::write(&self.values))),
            Format::Ini => ini::write(&self.values).map(Secret::new),
            Format::Binary => self.extract("data"),
        }
    }
}

/// A value by itself.
fn text_of(value: &Value) -> Option<Secret> {
    let text = match value {
        Value::Bool(true) => Zeroizing::new(b"true".to_vec()),
        Value::Bool(false) => Zeroizing::new(b"false".to_vec()),
        other => other.bytes()?,
    };
    Some(Secret::new(text.to_vec()))
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an opened file of {}", self.format)
    }
}

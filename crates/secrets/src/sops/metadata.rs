//! What sops wrote down beside the values: who opens them, and which of them are encrypted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use regex_lite::Regex;

use super::Error;
use super::tree::{Item, MAX_DEPTH, Map, Value};

/// The longest regular expression, in bytes.
const MAX_REGEX: usize = 4096;
/// The most recipients of one file.
const MAX_KEYS: usize = 1000;

/// The longest name of a key, in bytes: twice as much as the longest recipient of age's has.
const MAX_NAME: usize = 4096;

/// The kinds of keys that sops knows, with the field that says which key it is.
const KINDS: [(&str, &str); 7] = [
    ("age", "recipient"),
    ("pgp", "fp"),
    ("kms", "arn"),
    ("gcp_kms", "resource_id"),
    ("hckms", "key_id"),
    ("azure_kv", "vault_url"),
    ("hc_vault", "vault_address"),
];

pub(super) struct Metadata {
    pub(super) groups: Vec<Vec<MasterKey>>,
    pub(super) threshold: Option<u64>,
    pub(super) mac: Option<String>,
    pub(super) last_modified: String,
    pub(super) rule: Rule,
    pub(super) mac_only_encrypted: bool,
}

/// Somebody who can open the file.
pub(super) struct MasterKey {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// The data key, encrypted to them.
    pub(super) enc: String,
}

/// Which values are encrypted.
pub(super) enum Rule {
    AllBut(Part),
    Only(Part),
    /// Comments say it, and are not kept: what looks encrypted is.
    Comments,
}

/// What one key on the way to a value has.
pub(super) enum Part {
    Suffix(String),
    Matches(Regex),
}

impl Rule {
    /// Whether it is about what is below a key.
    pub(super) fn names(&self, key: &str) -> bool {
        match self {
            Self::AllBut(Part::Suffix(suffix)) | Self::Only(Part::Suffix(suffix)) => key.ends_with(suffix),
            Self::AllBut(Part::Matches(regex)) | Self::Only(Part::Matches(regex)) => regex.is_match(key),
            Self::Comments => false,
        }
    }

    /// Whether a value is encrypted: it is below a key that the rule names, or not.
    pub(super) fn encrypts(&self, named: bool, value: &Value) -> bool {
        match self {
            Self::AllBut(_) => !named,
            Self::Only(_) => named,
            Self::Comments => value.as_str().is_some_and(super::cipher::is_encrypted),
        }
    }
}

impl Metadata {
    /// Reads what is below the key `sops`.
    pub(super) fn read(map: &Map) -> Result<Self, Error> {
        let text = |key: &str| {
            map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let mut groups = vec![group(map)?];
        if groups[0].is_empty() {
            groups.clear();
            if let Some(Value::List(list)) = map.get("key_groups") {
                for item in list {
                    let Value::Map(item) = item else {
                        return Err(Error::Metadata("a key group is not a map".into()));
                    };
                    groups.push(group(item)?);
                }
            }
        }
        let keys = groups.iter().map(Vec::len).sum::<usize>();
        if keys == 0 {
            return Err(Error::Metadata("it names nobody who could open it".into()));
        }
        if keys > MAX_KEYS {
            return Err(Error::Metadata(format!(
                "it names {keys} keys that could open it, and {MAX_KEYS} are read"
            )));
        }
        let truth = |key: &str| match map.get(key) {
            Some(Value::Bool(truth)) => *truth,
            Some(other) => matches!(other.as_str(), Some("true" | "True" | "1")),
            None => false,
        };
        let threshold = match map.get("shamir_threshold") {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            Some(other) => other.as_str().and_then(|text| text.parse().ok()),
            None => None,
        };
        Ok(Self {
            groups,
            threshold: threshold.filter(|threshold| *threshold > 0),
            mac: text("mac"),
            last_modified: text("lastmodified").unwrap_or_default(),
            rule: rule(text)?,
            mac_only_encrypted: truth("mac_only_encrypted"),
        })
    }
}

fn group(map: &Map) -> Result<Vec<MasterKey>, Error> {
    let mut keys = Vec::new();
    for (kind, name_of) in KINDS {
        let list = match map.get(kind) {
            None | Some(Value::Null) => continue,
            Some(Value::List(list)) => list,
            Some(_) => return Err(Error::Metadata(format!("`{kind}` is not a list"))),
        };
        for item in list {
            let Value::Map(item) = item else {
                return Err(Error::Metadata(format!("an item of `{kind}` is not a map")));
            };
            let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = text(name_of);
            if name.len() > MAX_NAME {
                return Err(Error::Metadata(format!("one of `{kind}` is longer than any recipient")));
            }
            keys.push(MasterKey { kind, name, enc: text("enc") });
        }
    }
    Ok(keys)
}

fn rule(text: impl Fn(&str) -> Option<String>) -> Result<Rule, Error> {
    let regex = |text: String| {
        if text.len() > MAX_REGEX {
            return Err(Error::Metadata("its regular expression is too long".into()));
        }
        Regex::new(&text)
            .map(Part::Matches)
            .map_err(|error| Error::Metadata(format!("its regular expression can't be read: {error}")))
    };
    let mut rules = Vec::new();
    rules.extend(text("unencrypted_suffix").map(|suffix| Rule::AllBut(Part::Suffix(suffix))));
    rules.extend(text("encrypted_suffix").map(|suffix| Rule::Only(Part::Suffix(suffix))));
    if let Some(text) = text("unencrypted_regex") {
        rules.push(Rule::AllBut(regex(text)?));
    }
    if let Some(text) = text("encrypted_regex") {
        rules.push(Rule::Only(regex(text)?));
    }
    for key in ["unencrypted_comment_regex", "encrypted_comment_regex"] {
        rules.extend(text(key).map(|_| Rule::Comments));
    }
    match (rules.len(), rules.pop()) {
        (1, Some(rule)) => Ok(rule),
        (0, _) => Ok(Rule::AllBut(Part::Suffix("_unencrypted".into()))),
        _ => Err(Error::Metadata("it has more than one rule for what is encrypted".into())),
    }
}

/// What is put together of what has one level.
enum Flat {
    Value(Value),
    Map(BTreeMap<String, Flat>),
}

/// Puts together what dotenv and ini have in one level: `age__list_0__map_enc`.
pub(super) fn unflatten(flat: Map) -> Result<Map, Error> {
    let mut root = BTreeMap::new();
    for item in flat.0 {
        let Item::Entry(name, value) = item else { continue };
        place(&mut root, &steps(&name)?, value).ok_or_else(|| {
            Error::Metadata(format!("`{}` is there twice, or in two ways", super::shown(&name)))
        })?;
    }
    Ok(Map(root.into_iter().map(|(key, flat)| Item::Entry(key, whole(flat))).collect()))
}

/// The keys on the way: one of a list is its index, with a mark that no key of sops' has.
fn steps(name: &str) -> Result<Vec<String>, Error> {
    let marked = name.replace("__list_", "\0#").replace("__map_", "\0");
    let steps: Vec<String> = marked.split('\0').map(str::to_owned).collect();
    if steps.len() > MAX_DEPTH { Err(Error::TooDeep) } else { Ok(steps) }
}

fn place(map: &mut BTreeMap<String, Flat>, steps: &[String], value: Value) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    if rest.is_empty() {
        return match map.entry(step.clone()) {
            Entry::Vacant(free) => {
                free.insert(Flat::Value(value));
                Some(())
            }
            Entry::Occupied(_) => None,
        };
    }
    match map.entry(step.clone()).or_insert_with(|| Flat::Map(BTreeMap::new())) {
        Flat::Map(below) => place(below, rest, value),
        Flat::Value(_) => None,
    }
}

/// Makes lists of the maps whose keys are indexes, in their order.
fn whole(flat: Flat) -> Value {
    let below = match flat {
        Flat::Value(value) => return value,
        Flat::Map(below) => below,
    };
    if !below.keys().all(|key| key.starts_with('#')) {
        return Value::Map(Map(below.into_iter().map(|(key, flat)| Item::Entry(key, whole(flat))).collect()));
    }
    let indexed = |(key, flat): (String, Flat)| Some((key.strip_prefix('#')?.parse().ok()?, whole(flat)));
    let mut items: Vec<(usize, Value)> = below.into_iter().filter_map(indexed).collect();
    items.sort_by_key(|(index, _)| *index);
    Value::List(items.into_iter().map(|(_, value)| value).collect())
}

//! Makes files as sops does, for tests only: bosco never writes one for anybody.

use std::io::Write as _;

use age::armor::{ArmoredWriter, Format as Armor};
use sha2::{Digest as _, Sha512};

use super::super::cipher::DataKey;
use super::super::tree::{Item, Map, Value};
use super::super::{Format, dotenv, ini, json, yaml};
use crate::{Recipient, seal};

pub(super) const DATA_KEY: [u8; 32] = [7; 32];
const WHEN: &str = "2026-11-21T20:00:00Z";

/// A data key, encrypted to a recipient as it stands in a file.
pub(super) fn armored(data_key: &[u8], to: &Recipient) -> String {
    let sealed = seal(data_key, std::slice::from_ref(to)).unwrap();
    let mut out = Vec::new();
    let mut writer = ArmoredWriter::wrap_output(&mut out, Armor::AsciiArmor).unwrap();
    writer.write_all(&sealed).unwrap();
    writer.finish().unwrap();
    String::from_utf8(out).unwrap()
}

/// Encrypts what `encrypts` says, to the recipients, with more metadata than what always has to be there.
pub(super) fn encrypt(
    plain: &Map,
    format: Format,
    to: &[&Recipient],
    encrypts: fn(&[&str]) -> bool,
    more: &[(&str, Value)],
) -> Vec<u8> {
    let key = DataKey::new(&DATA_KEY).unwrap();
    let only = more.iter().any(|(key, _)| *key == "mac_only_encrypted");
    let mut hash = Sha512::new();
    if only {
        hash.update(super::super::file::ONLY_ENCRYPTED);
    }
    let mut walk = Walk { key: &key, hash, only, encrypts, count: 0 };
    let mut values = walk.map(plain, &mut Vec::new());
    let mac: String = walk.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
    let text = |key: &str, text: &str| Item::Entry(key.into(), Value::text(text));
    let age = |to: &&Recipient| {
        let enc = armored(&DATA_KEY, to);
        Value::Map(Map(vec![text("recipient", to.as_str()), text("enc", &enc)]))
    };
    let mut metadata = vec![
        Item::Entry("age".into(), Value::List(to.iter().map(age).collect())),
        text("lastmodified", WHEN),
        text("mac", &key.seal(mac.as_bytes(), "str", WHEN, [1; 32])),
    ];
    metadata.extend(more.iter().map(|(key, value)| Item::Entry((*key).into(), value.clone())));
    metadata.push(text("version", "3.13.1"));
    match format {
        Format::Dotenv => values.0.extend(
            flat(&Map(metadata)).into_iter().map(|(key, value)| text(&format!("sops_{key}"), &value)),
        ),
        Format::Ini => {
            let lines = |(key, value): (String, String)| text(&key, &value.replace('\n', "\\n"));
            let section = flat(&Map(metadata)).into_iter().map(lines).collect();
            values.0.push(Item::Entry("sops".into(), Value::Map(Map(section))));
        }
        _ => values.0.push(Item::Entry("sops".into(), Value::Map(Map(metadata)))),
    }
    match format {
        Format::Yaml => yaml::write(&values).unwrap(),
        Format::Json | Format::Binary => json::write(&values).unwrap(),
        Format::Dotenv => dotenv::write(&values),
        Format::Ini => ini::write(&values).unwrap(),
    }
}

fn flat(map: &Map) -> Vec<(String, String)> {
    fn add(name: String, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Map(map) => {
                for (key, value) in map.entries() {
                    add(format!("{name}__map_{key}"), value, out);
                }
            }
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    add(format!("{name}__list_{index}"), item, out);
                }
            }
            Value::Bool(bool) => out.push((name, bool.to_string())),
            leaf => out.push((name, leaf.as_str().unwrap().to_owned())),
        }
    }
    let mut out = Vec::new();
    map.entries().for_each(|(key, value)| add(key.to_owned(), value, &mut out));
    out
}

struct Walk<'a> {
    key: &'a DataKey,
    hash: Sha512,
    only: bool,
    encrypts: fn(&[&str]) -> bool,
    count: u8,
}

impl Walk<'_> {
    fn map<'m>(&mut self, map: &'m Map, path: &mut Vec<&'m str>) -> Map {
        let mut items = Vec::new();
        for item in &map.0 {
            items.push(match item {
                Item::Comment(comment) => {
                    let place = path.join(":") + ":";
                    Item::Comment(self.key.seal(comment, "comment", &place, [9; 32]).into_bytes().into())
                }
                Item::Entry(key, value) => {
                    path.push(key);
                    let value = self.value(value, path);
                    path.pop();
                    Item::Entry(key.clone(), value)
                }
            });
        }
        Map(items)
    }

    fn value<'m>(&mut self, value: &'m Value, path: &mut Vec<&'m str>) -> Value {
        let kind = match value {
            Value::Null => return Value::Null,
            Value::Map(map) => return Value::Map(self.map(map, path)),
            Value::List(list) => {
                return Value::List(list.iter().map(|item| self.value(item, path)).collect());
            }
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::Time(_) => "time",
        };
        let (bytes, encrypted) = (value.bytes().unwrap(), (self.encrypts)(path));
        if encrypted || !self.only {
            self.hash.update(&*bytes);
        }
        self.count = self.count.wrapping_add(1);
        if encrypted {
            Value::text(&self.key.seal(&bytes, kind, &(path.join(":") + ":"), [self.count; 32]))
        } else {
            value.clone()
        }
    }
}

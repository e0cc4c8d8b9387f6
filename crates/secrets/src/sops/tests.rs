//! Files of the real sops, where they are there; files made here otherwise; and both after somebody was at them.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod encryptor;
mod hostile;
mod rules;

use std::path::PathBuf;

use serde_json::Value as Json;

use super::cipher::DataKey;
use super::metadata::MasterKey;
use super::tree::{Item, Map, Value, whole};
use super::{Error, File, Format, dotenv, ini, json, yaml};
use crate::{Identity, Recipient};

/// The published test data beside the project's checkout.
fn fixtures() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/sops-fixtures"));
    folder.is_dir().then_some(folder)
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// What is in a plaintext file, read as what it is.
fn plain(bytes: &[u8], format: Format) -> Map {
    let text = std::str::from_utf8(bytes).unwrap();
    match format {
        Format::Yaml => yaml::read(text).unwrap(),
        Format::Json | Format::Binary => json::read(text).unwrap(),
        Format::Dotenv => dotenv::read(text).unwrap(),
        Format::Ini => ini::read(text).unwrap(),
    }
}

/// A plaintext file, encrypted to a recipient.
pub(crate) fn sample(text: &str, format: Format, to: &Recipient) -> Vec<u8> {
    encryptor::encrypt(&plain(text.as_bytes(), format), format, &[to], |_| true, &[])
}

/// In the order of the keys, as `serde_json` has them.
fn sorted(map: &Map) -> Json {
    serde_json::to_value(said(map)).unwrap()
}

#[test]
fn files_of_the_real_sops_open_to_exactly_what_they_were() {
    let Some(folder) = fixtures() else { return };
    let expected: Json =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let (identity, _) = Identity::generate();
    let to_us = [identity];
    let mut opened_files = 0;
    for (name, expected) in expected.as_object().unwrap() {
        let format = match name.as_str() {
            "sops/example.txt" | "sops-nix/secrets.bin" => Format::Binary,
            name => Format::of_name(name),
        };
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let mut file = File::parse(&bytes, format).unwrap();
        let data_key = hex(expected["data_key_hex"].as_str().unwrap());
        if name == "sops/no_mac.yaml" {
            assert_eq!(file.open_with(&DataKey::new(&data_key).unwrap()).unwrap_err(), Error::NoMac);
            continue;
        }
        // The same file, with a recipient that bosco reads.
        let enc = encryptor::armored(&data_key, to_us[0].recipient());
        file.metadata.groups =
            vec![vec![MasterKey { kind: "age", name: to_us[0].recipient().to_string(), enc }]];
        let opened = file.open(&to_us).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected_values = plain(expected["plaintext"].to_string().as_bytes(), Format::Json);
        assert_eq!(sorted(&opened.values), sorted(&expected_values), "{name}");
        let whole = opened.whole().unwrap();
        if format == Format::Binary {
            assert_eq!(whole.expose(), expected["plaintext"]["data"].as_str().unwrap().as_bytes(), "{name}");
        } else {
            let back = plain(whole.expose(), format);
            assert_eq!(said(&back), said(&opened.values), "{name}");
        }
        for path in file.names() {
            opened.extract(&path).unwrap();
        }
        opened_files += 1;
    }
    assert_eq!((expected.as_object().unwrap().len(), opened_files), (18, 17));
}

#[test]
fn what_sops_made_of_our_own_files_by_every_rule_opens_to_what_they_were() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    let identities =
        Identity::parse_all(&std::fs::read_to_string(folder.join("keys/ed25519")).unwrap()).unwrap();
    let mut opened_files = 0;
    for entry in std::fs::read_dir(folder.join("sops")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.contains(".enc.") {
            continue;
        }
        let format = Format::of_name(&name);
        let file =
            File::parse(&std::fs::read(&path).unwrap(), format).unwrap_or_else(|e| panic!("{name}: {e}"));
        let opened = file.open(&identities).unwrap_or_else(|e| panic!("{name}: {e}"));
        let plain_file = path.with_file_name("plain").with_extension(path.extension().unwrap());
        let bytes = std::fs::read(plain_file).unwrap();
        if format == Format::Binary {
            assert_eq!(opened.whole().unwrap().expose(), bytes);
        } else {
            assert_eq!(said(&opened.values), said(&plain(&bytes, format)), "{name}");
            let whole = opened.whole().unwrap();
            assert_eq!(said(&plain(whole.expose(), format)), said(&opened.values), "{name}");
        }
        for path in file.names() {
            assert!(!matches!(opened.extract(&path), Err(Error::NoKey(_))), "{name}: {path}");
        }
        opened_files += 1;
    }
    assert_eq!(opened_files, 16);
}

/// What sops does not keep left out: comments in their places, and whether a whole number is a float.
fn said(map: &Map) -> Map {
    fn of(value: &Value) -> Value {
        match value {
            Value::Map(map) => Value::Map(said(map)),
            Value::List(list) => Value::List(list.iter().map(of).collect()),
            Value::Float(float) => whole(*float).map_or(Value::Float(*float), Value::Int),
            other => other.clone(),
        }
    }
    Map(map.entries().map(|(key, found)| Item::Entry(key.to_owned(), of(found))).collect())
}

#[test]
fn a_file_of_sops_nix_opens_with_its_age_key_and_names_the_age_form_of_its_ssh_key() {
    let Some(folder) = fixtures().map(|folder| folder.join("sops-nix")) else { return };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let file = File::parse(read("secrets.yaml").as_bytes(), Format::Yaml).unwrap();
    let age: Vec<_> = file.recipients().into_iter().filter(|key| key.kind == "age").collect();
    let ssh = Recipient::parse(&read("ssh-ed25519-key.pub")).unwrap();
    assert_eq!(age[1].name, ssh.age_form().as_str());
    for identities in
        [Identity::parse_all(&read("age-keys.txt")), Identity::parse_all(&read("ssh-ed25519-key"))]
    {
        let opened = file.open(&identities.unwrap()).unwrap();
        assert_eq!(opened.extract("nested/test/file").unwrap().expose(), b"another value");
        assert_eq!(opened.extract("a_list/1").unwrap().expose(), b"e3");
    }
    assert_eq!(file.names(), ["test_key", "a_list/0", "a_list/1", "nested/test/file"]);
    assert!(
        file.recipients().iter().any(|key| key.to_string() == "pgp 7FB89715AADA920D65D25E63F9BA9DEBD03F57C0")
    );
}

#[test]
fn who_could_open_it_is_named_where_bosco_cannot() {
    let Some(folder) = fixtures() else { return };
    let (ours, _) = Identity::generate();
    let to_us = ours.recipient().to_string();
    let file = File::parse(&std::fs::read(folder.join("sops/example.json")).unwrap(), Format::Json).unwrap();
    let error = file.open(&[ours]).unwrap_err().to_string();
    assert!(
        error.contains("pgp FBC7B9E2A4F9289AC0C1D4843D16CEE4A27381B4") && error.contains(&to_us),
        "{error}"
    );
}

//! Makes files as sops does, for tests only: bosco never writes one for anybody. They are YAML that is JSON as well.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bosco_secrets::Recipient;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

const DATA_KEY: [u8; 32] = [7; 32];
const WHEN: &str = "2026-11-21T20:00:00Z";

/// A file with these values, for whom it is encrypted to: a line as in `ssh_host_ed25519_key.pub`, or `age1…`.
pub fn encrypted(values: &[(&str, &str)], recipients: &[&str]) -> String {
    let mut hash = Sha512::new();
    let mut file = Map::new();
    for (name, value) in values {
        hash.update(value.as_bytes());
        file.insert((*name).to_owned(), sealed(value, &format!("{name}:")).into());
    }
    let mac: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
    let age = |to: &&str| {
        let to = Recipient::parse(to).unwrap().age_form();
        json!({ "recipient": to.as_str(), "enc": armored(&to) })
    };
    let age: Vec<Value> = recipients.iter().map(age).collect();
    let metadata =
        json!({ "age": age, "lastmodified": WHEN, "mac": sealed(&mac, WHEN), "version": "3.11.0" });
    file.insert("sops".into(), metadata);
    serde_json::to_string_pretty(&file).unwrap()
}

fn sealed(plain: &str, place: &str) -> String {
    let iv = [plain.len() as u8; 32];
    let key = AesGcm::<Aes256, U32>::new_from_slice(&DATA_KEY).unwrap();
    let payload = Payload { msg: plain.as_bytes(), aad: place.as_bytes() };
    let sealed = key.encrypt((&iv).into(), payload).unwrap();
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    format!(
        "ENC[AES256_GCM,data:{},iv:{},tag:{},type:str]",
        BASE64.encode(data),
        BASE64.encode(iv),
        BASE64.encode(tag)
    )
}

fn armored(to: &Recipient) -> String {
    let text = BASE64.encode(bosco_secrets::seal(&DATA_KEY, std::slice::from_ref(to)).unwrap());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN AGE ENCRYPTED FILE-----\n{}\n-----END AGE ENCRYPTED FILE-----\n", lines.join("\n"))
}

//! Makes files as sops does, for tests only: bosco never writes one for anybody. They are YAML that is JSON as well.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bosco_secrets::Recipient;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

const DATA_KEY: [u8; 32] = [7; 32];
const WHEN: &str = "2026-11-21T20:00:00Z";

/// A file with these values, encrypted to each of these: a line as in `ssh_host_ed25519_key.pub`, or `age1…`.
///
/// # Errors
/// Where one is no recipient.
pub fn encrypted(values: &[(&str, &str)], recipients: &[&str]) -> Result<String> {
    let mut hash = Sha512::new();
    let mut file = Map::new();
    // In the order in which they are written.
    let mut values = values.to_vec();
    values.sort_unstable();
    for (name, value) in &values {
        hash.update(value.as_bytes());
        file.insert((*name).to_owned(), sealed(value, &format!("{name}:"))?.into());
    }
    let mac: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
    let age = |to: &&str| {
        let to = Recipient::parse(to)?.age_form();
        Ok(json!({ "recipient": to.as_str(), "enc": armored(&to)? }))
    };
    let age: Vec<Value> = recipients.iter().map(age).collect::<Result<_>>()?;
    let metadata =
        json!({ "age": age, "lastmodified": WHEN, "mac": sealed(&mac, WHEN)?, "version": "3.11.0" });
    file.insert("sops".into(), metadata);
    Ok(serde_json::to_string_pretty(&file)?)
}

fn sealed(plain: &str, place: &str) -> Result<String> {
    // Bound to its place, so that no two are the same.
    let iv: [u8; 32] = sha2::Sha256::digest(place).into();
    let key =
        AesGcm::<Aes256, U32>::new_from_slice(&DATA_KEY).map_err(|_| anyhow!("the key has 32 bytes"))?;
    let payload = Payload { msg: plain.as_bytes(), aad: place.as_bytes() };
    let sealed = key.encrypt((&iv).into(), payload).map_err(|_| anyhow!("it can't be encrypted"))?;
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    let text = |bytes: &[u8]| BASE64.encode(bytes);
    Ok(format!("ENC[AES256_GCM,data:{},iv:{},tag:{},type:str]", text(data), text(&iv), text(tag)))
}

/// The data key for one of those to whom it is encrypted.
fn armored(to: &Recipient) -> Result<String> {
    let text = BASE64.encode(bosco_secrets::seal(&DATA_KEY, std::slice::from_ref(to))?);
    let lines = text.as_bytes().chunks(64).map(std::str::from_utf8);
    let lines: Vec<&str> = lines.collect::<Result<_, _>>().context("base64 is text")?;
    Ok(format!(
        "-----BEGIN AGE ENCRYPTED FILE-----\n{}\n-----END AGE ENCRYPTED FILE-----\n",
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use bosco_secrets::Identity;
    use bosco_secrets::sops::{File, Format};

    use super::*;

    #[test]
    fn what_is_encrypted_is_opened_by_its_recipient() {
        let (identity, _) = Identity::generate();
        let text = encrypted(&[("a", "one"), ("b", "two")], &[identity.recipient().as_str()]).unwrap();
        let opened = File::parse(text.as_bytes(), Format::Yaml).unwrap().open(&[identity]).unwrap();
        assert_eq!(opened.extract("b").unwrap().expose(), b"two");
        assert!(!text.contains("two"));
    }
}

//! A value as sops encrypts it: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::tree::Value;

/// AES-256-GCM, as it is: with an IV of 32 bytes.
type Aes = AesGcm<Aes256, U32>;

/// What opens all values of one file.
pub(super) struct DataKey(Aes);

/// Why a value can't be decrypted.
pub(super) type Why = &'static str;

impl DataKey {
    /// The key of 32 bytes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        Aes::new_from_slice(bytes).ok().map(Self)
    }

    /// Decrypts a value that stands at a place, which is each key on the way to it with a `:` behind.
    pub(super) fn open(&self, text: &str, place: &str) -> Result<Value, Why> {
        // Sops leaves an empty text as it is.
        if text.is_empty() {
            return Ok(Value::text(""));
        }
        let encrypted = Encrypted::parse(text).ok_or("it is not encrypted as sops does it")?;
        let payload = Payload { msg: &encrypted.data_and_tag, aad: place.as_bytes() };
        let opened =
            <&[u8; 32]>::try_from(encrypted.iv.as_slice()).map_err(|_| "its IV has not 32 bytes").and_then(
                |iv| self.0.decrypt(iv.into(), payload).map_err(|_| "it was changed, or belongs elsewhere"),
            )?;
        typed(Zeroizing::new(opened), encrypted.kind)
    }

    #[cfg(test)]
    pub(super) fn seal(&self, plain: &[u8], kind: &str, place: &str, iv: [u8; 32]) -> String {
        if plain.is_empty() {
            return String::new();
        }
        let sealed = self.0.encrypt((&iv).into(), Payload { msg: plain, aad: place.as_bytes() }).unwrap();
        let (data, tag) = sealed.split_at(sealed.len() - 16);
        let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        format!("ENC[AES256_GCM,data:{},iv:{},tag:{},type:{kind}]", text(data), text(&iv), text(tag))
    }
}

/// Whether a text is encrypted.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.starts_with("ENC[AES256_GCM,")
}

/// Whether a text is an encrypted comment: sops makes an item of a comment that stands in a list.
pub(super) fn is_encrypted_comment(text: &str) -> bool {
    is_encrypted(text) && text.ends_with(",type:comment]")
}

struct Encrypted<'a> {
    data_and_tag: Vec<u8>,
    iv: Vec<u8>,
    kind: &'a str,
}

impl<'a> Encrypted<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = inner.split_once(",iv:")?;
        let (iv, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        let bytes = |text: &str| BASE64_STANDARD.decode(text).ok();
        let mut data_and_tag = bytes(data)?;
        let tag = bytes(tag).filter(|tag| tag.len() == 16)?;
        data_and_tag.extend(tag);
        Some(Self { data_and_tag, iv: bytes(iv)?, kind })
    }
}

/// What sops had encrypted.
fn typed(bytes: Zeroizing<Vec<u8>>, kind: &str) -> Result<Value, Why> {
    let text = || std::str::from_utf8(&bytes).ok();
    let value = match kind {
        "str" | "bytes" | "comment" => return Ok(Value::Text(bytes)),
        "int" => text().and_then(|text| text.parse().ok()).map(Value::Int),
        "float" => text().and_then(|text| text.parse().ok()).map(Value::Float),
        "bool" => match bytes.as_slice() {
            b"True" | b"true" | b"TRUE" | b"1" | b"t" | b"T" => Some(Value::Bool(true)),
            b"False" | b"false" | b"FALSE" | b"0" | b"f" | b"F" => Some(Value::Bool(false)),
            _ => None,
        },
        "time" => text().map(|text| Value::Time(text.to_owned())),
        _ => return Err("it is of a type that bosco does not know"),
    };
    value.ok_or("it is not of the type that it says it is")
}

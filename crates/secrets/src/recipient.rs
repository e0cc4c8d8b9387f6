//! To whom a secret is encrypted.

use std::fmt;

use bosco_model::shown;
use curve25519_dalek::edwards::CompressedEdwardsY;
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;
use thiserror::Error;

/// How much of a text that is none an error shows, in characters.
const SHOWN: usize = 40;

/// A recipient: `age1…`, or an ed25519 key as OpenSSH writes it.
///
/// An SSH key has two forms in use: age's own `ssh-ed25519`, and the `age1…` that `ssh-to-age` derives from it. Who has the
/// key opens both; what is sealed here is sealed to the derived one. Two recipients are equal where they are the same text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient {
    text: String,
    age: age::x25519::Recipient,
}

/// A text is not a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a recipient, such as `age1…` or `ssh-ed25519 AAAA…`: {why}")]
pub struct InvalidRecipient {
    text: String,
    why: String,
}

impl Recipient {
    /// Reads a recipient. An SSH key can have a comment behind it, which is dropped.
    ///
    /// # Errors
    /// [`InvalidRecipient`], for all other kinds of keys too.
    pub fn parse(text: &str) -> Result<Self, InvalidRecipient> {
        let text = text.trim();
        let invalid = |why: &str| InvalidRecipient { text: shown(text, SHOWN), why: why.to_owned() };
        if text.starts_with("age1") {
            let age = text.parse().map_err(invalid)?;
            return Ok(Self { text: text.to_owned(), age });
        }
        let key = PublicKey::from_openssh(text).map_err(|e| invalid(&e.to_string()))?;
        let KeyData::Ed25519(point) = key.key_data() else {
            return Err(invalid(&format!(
                "a key of kind {} can't be a recipient, only one of kind ssh-ed25519 can",
                key.algorithm()
            )));
        };
        let age = derived(&point.0).ok_or_else(|| invalid("it is no point of its curve"))?;
        let text =
            PublicKey::from(key.key_data().clone()).to_openssh().map_err(|e| invalid(&e.to_string()))?;
        Ok(Self { text, age })
    }

    /// The same recipient in its `age1…` form: itself, or what `ssh-to-age` derives from an SSH key.
    #[must_use]
    pub fn age_form(&self) -> Self {
        Self { text: self.age.to_string(), age: self.age.clone() }
    }

    /// The text, an SSH key's without a comment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What age encrypts to.
    pub(crate) fn age(&self) -> &age::x25519::Recipient {
        &self.age
    }

    /// The recipient of an identity of age's.
    pub(crate) fn of(age: age::x25519::Recipient) -> Self {
        Self { text: age.to_string(), age }
    }
}

/// The X25519 key of an Ed25519 key, as `ssh-to-age` derives it: the same point on the other form of the curve.
fn derived(ed25519: &[u8; 32]) -> Option<age::x25519::Recipient> {
    let point = CompressedEdwardsY(*ed25519).decompress().filter(|point| !point.is_small_order())?;
    let hrp = bech32::Hrp::parse("age").ok()?;
    bech32::encode::<bech32::Bech32>(hrp, point.to_montgomery().as_bytes()).ok()?.parse().ok()
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.text
    }
}

impl TryFrom<String> for Recipient {
    type Error = InvalidRecipient;

    fn try_from(text: String) -> Result<Self, InvalidRecipient> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mic92/sops-nix's test key (MIT), and the recipient that its secrets.yaml has for it.
    const SSH: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBI1+Q+ntzANebtnicCiAY29uqLGWOaOGLEa8bUqOVmS";
    const AGE: &str = "age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs";

    #[test]
    fn the_age_form_of_an_ssh_key_is_the_one_of_ssh_to_age() {
        let ssh = Recipient::parse(&format!("{SSH} carat@carat-dell\n")).unwrap();
        assert_eq!(ssh.as_str(), SSH);
        assert_eq!(ssh.age_form(), Recipient::parse(AGE).unwrap());
        assert_eq!(ssh.age_form().age_form(), ssh.age_form());
    }

    #[test]
    fn other_kinds_of_keys_are_refused_by_name() {
        for (text, says) in [
            ("", "not a recipient"),
            ("age1yt3tfqlfrwdwx0z0ynwplcr6qxcxfaqycuprpmy89nr83ltx74tqdpszlx", "not a recipient"),
            ("ssh-ed25519 AAAA", "not a recipient"),
            (
                // A P-256 key.
                "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=",
                "ecdsa-sha2-nistp256",
            ),
        ] {
            let error = Recipient::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_key_to_which_nothing_can_be_kept_secret_is_refused() {
        // The neutral point: whatever is sealed to it, everybody opens.
        let mut key = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20".to_vec();
        key.extend([1]);
        key.extend([0; 31]);
        let text = format!("ssh-ed25519 {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key));
        assert!(Recipient::parse(&text).is_err());
    }
}

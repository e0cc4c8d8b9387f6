//! Public keys, as OpenSSH writes them: of hosts, operators and hubs.

use std::fmt;

use bosco_model::shown;
use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use thiserror::Error;

/// How much of a text that is none an error shows, in characters.
const SHOWN: usize = 40;

/// A public key: `ssh-ed25519 AAAA…`, without a comment. Two are the same key exactly where they are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a public key as OpenSSH writes it, such as `ssh-ed25519 AAAA…`: {why}")]
pub struct InvalidKey {
    text: String,
    why: String,
}

impl Key {
    /// Reads a key, with or without a comment behind it.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let invalid = |why: ssh_key::Error| InvalidKey { text: shown(text, SHOWN), why: why.to_string() };
        Self::of(&PublicKey::from_openssh(text.trim()).map_err(invalid)?).map_err(invalid)
    }

    /// The key of a connection or a signature.
    ///
    /// # Errors
    /// Where it can't be written: no key that was read anywhere.
    pub fn of(key: &PublicKey) -> Result<Self, ssh_key::Error> {
        PublicKey::from(key.key_data().clone()).to_openssh().map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.parsed().map(|key| key.fingerprint(HashAlg::Sha256).to_string()).unwrap_or_default()
    }

    /// What kind of key it is, in words, where signatures by such a one can't be verified here.
    #[must_use]
    pub fn unverifiable(&self) -> Option<String> {
        let ecdsa = |bits| format!("an ECDSA key of {bits} bits, and not of 256");
        match self.parsed()?.algorithm() {
            Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } => None,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 } => Some(ecdsa(384)),
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 } => Some(ecdsa(521)),
            Algorithm::Rsa { .. } => Some("an RSA key".into()),
            Algorithm::Dsa => Some("a DSA key".into()),
            other => Some(format!("a key of kind {other}")),
        }
    }

    /// The key itself.
    #[must_use]
    pub fn parsed(&self) -> Option<PublicKey> {
        PublicKey::from_openssh(&self.0).ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        Self::parse(&text)
    }
}

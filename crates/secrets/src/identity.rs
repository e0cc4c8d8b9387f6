//! Who opens a secret.

use std::fmt;
use std::io::BufReader;

use age::secrecy::ExposeSecret;
use age_core::format::{FileKey, Stanza};
use sha2::{Digest as _, Sha512};
use ssh_key::PrivateKey;
use ssh_key::private::KeypairData;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Recipient, Secret};

/// The longest identity, in bytes: an OpenSSH key of the largest kind has a few kilobytes.
const MAX_IDENTITY: usize = 64 << 10;
/// The most identities in one file.
const MAX_IDENTITIES: usize = 100;

/// What opens what was encrypted to a recipient: an `AGE-SECRET-KEY-1…`, or an ed25519 key of OpenSSH.
///
/// An SSH key opens both what is encrypted to it as age does that, and what is encrypted to the `age1…` derived from it.
pub struct Identity {
    age: age::x25519::Identity,
    ssh: Option<age::ssh::Identity>,
    recipient: Recipient,
}

/// Why a text is not an identity. None of these shows any of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidIdentity {
    /// Neither of both forms.
    #[error("this is neither an age identity (`AGE-SECRET-KEY-1…`) nor a private key of OpenSSH")]
    Unknown,
    /// More than [`MAX_IDENTITY`] bytes.
    #[error("a private key has at most {MAX_IDENTITY} bytes, this has {0}")]
    TooLong(usize),
    /// More than [`MAX_IDENTITIES`] lines.
    #[error("a file has at most {MAX_IDENTITIES} identities")]
    TooMany,
    /// It begins as one of age's.
    #[error("the age identity is damaged: {0}")]
    Age(&'static str),
    /// It begins as one of OpenSSH's.
    #[error("the private key of OpenSSH is damaged: {0}")]
    Ssh(String),
    /// It needs a passphrase, which nobody is there to type.
    #[error("the private key of OpenSSH has a passphrase; bosco needs one without, as hosts' keys are")]
    Encrypted,
    /// RSA, ECDSA, a hardware key.
    #[error(
        "a private key of kind {0} can't open secrets; use one of kind ssh-ed25519, such as /etc/ssh/ssh_host_ed25519_key"
    )]
    Kind(String),
}

impl Identity {
    /// Reads one identity.
    ///
    /// # Errors
    /// [`InvalidIdentity`].
    pub fn parse(text: &str) -> Result<Self, InvalidIdentity> {
        if text.len() > MAX_IDENTITY {
            return Err(InvalidIdentity::TooLong(text.len()));
        }
        let text = text.trim();
        if text.starts_with("AGE-SECRET-KEY-1") {
            return text.parse().map(Self::of_age).map_err(InvalidIdentity::Age);
        }
        match text.lines().next() {
            Some("-----BEGIN OPENSSH PRIVATE KEY-----") => Self::of_ssh(text),
            Some("-----BEGIN RSA PRIVATE KEY-----") => Err(InvalidIdentity::Kind("ssh-rsa".into())),
            Some("-----BEGIN ENCRYPTED PRIVATE KEY-----") => Err(InvalidIdentity::Encrypted),
            _ => Err(InvalidIdentity::Unknown),
        }
    }

    /// Reads a file: one private key of OpenSSH, or age's identities with comments, as `age-keygen` writes them.
    ///
    /// # Errors
    /// [`InvalidIdentity`], where one of them is not valid or there is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, InvalidIdentity> {
        if text.trim_start().starts_with("-----BEGIN") {
            return Ok(vec![Self::parse(text)?]);
        }
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines().nth(MAX_IDENTITIES) {
            Some(_) => Err(InvalidIdentity::TooMany),
            None if lines().next().is_none() => Err(InvalidIdentity::Unknown),
            None => lines().map(Self::parse).collect(),
        }
    }

    /// A new one, and its text, to be kept.
    #[must_use]
    pub fn generate() -> (Self, Secret) {
        let age = age::x25519::Identity::generate();
        let text = Secret::new(age.to_string().expose_secret().as_bytes().to_vec());
        (Self::of_age(age), text)
    }

    /// To whom something has to be encrypted for this identity to open it; of an SSH key the derived form.
    #[must_use]
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    fn of_age(age: age::x25519::Identity) -> Self {
        Self { recipient: Recipient::of(age.to_public()), ssh: None, age }
    }

    fn of_ssh(text: &str) -> Result<Self, InvalidIdentity> {
        let damaged = |why: &dyn fmt::Display| InvalidIdentity::Ssh(why.to_string());
        let key = PrivateKey::from_openssh(text).map_err(|e| damaged(&e))?;
        let pair = match key.key_data() {
            KeypairData::Ed25519(pair) => pair,
            _ if key.is_encrypted() => return Err(InvalidIdentity::Encrypted),
            _ => return Err(InvalidIdentity::Kind(key.algorithm().to_string())),
        };
        let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(pair.private.as_ref())));
        let hrp = bech32::Hrp::parse("AGE-SECRET-KEY-").map_err(|e| damaged(&e))?;
        let age = bech32::encode_upper::<bech32::Bech32>(hrp, &hash[..32]).map_err(|e| damaged(&e))?;
        let age: age::x25519::Identity = Zeroizing::new(age).parse().map_err(InvalidIdentity::Age)?;
        let ssh = age::ssh::Identity::from_buffer(BufReader::new(text.as_bytes()), None)
            .map_err(|e| damaged(&e))?;
        Ok(Self { recipient: Recipient::of(age.to_public()), ssh: Some(ssh), age })
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        let by_ssh = || self.ssh.as_ref().and_then(|ssh| ssh.unwrap_stanza(stanza));
        self.age.unwrap_stanza(stanza).or_else(by_ssh)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the identity of {}", self.recipient)
    }
}

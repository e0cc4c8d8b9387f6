//! Encrypting to recipients, and opening that: age's binary format.

use std::io::{Read as _, Write as _};

use thiserror::Error;

use crate::{Identity, Recipient, Secret};

/// The longest thing that is unsealed, in bytes.
pub(crate) const MAX_SEALED: usize = 4 << 20;

/// Why something could not be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// Nobody could ever open it.
    #[error("there is no recipient to encrypt to")]
    NoRecipient,
    /// Too much.
    #[error("a secret has at most {MAX_SEALED} bytes, this has {0}")]
    TooLong(usize),
    /// age could not.
    #[error("it can't be encrypted: {0}")]
    Age(String),
}

/// Why something could not be unsealed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnsealError {
    /// Too much.
    #[error("it has {0} bytes, and at most {MAX_SEALED} are read")]
    TooLong(usize),
    /// It was encrypted to others.
    #[error("none of the keys here opens it: it was encrypted to others")]
    NotForUs,
    /// It is not what was sealed.
    #[error("it is damaged, or not an age file: {0}")]
    Damaged(String),
}

/// Encrypts to all recipients, each of whom can open it: age's binary format, X25519.
///
/// # Errors
/// [`SealError`].
pub fn seal(plaintext: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError> {
    // What it becomes is longer by its header and by 16 bytes for each 64 KiB.
    if plaintext.len() > MAX_SEALED / 2 {
        return Err(SealError::TooLong(plaintext.len()));
    }
    let recipients = recipients.iter().map(|recipient| recipient.age() as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| match error {
        age::EncryptError::MissingRecipients => SealError::NoRecipient,
        other => SealError::Age(other.to_string()),
    })?;
    let mut sealed = Vec::new();
    let wrote = encryptor.wrap_output(&mut sealed).and_then(|mut out| {
        out.write_all(plaintext)?;
        out.finish()
    });
    wrote.map_err(|error| SealError::Age(error.to_string()))?;
    Ok(sealed)
}

/// Opens what was sealed to one of the identities.
///
/// # Errors
/// [`UnsealError`].
pub fn unseal(sealed: &[u8], identities: &[Identity]) -> Result<Secret, UnsealError> {
    if sealed.len() > MAX_SEALED {
        return Err(UnsealError::TooLong(sealed.len()));
    }
    let damaged = |why: &dyn std::fmt::Display| UnsealError::Damaged(why.to_string());
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|e| damaged(&e))?;
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => UnsealError::NotForUs,
        other => damaged(&other),
    })?;
    // As large as it can get, so that no copy is left behind where it grows.
    let mut plaintext = Vec::with_capacity(sealed.len());
    let read = reader.read_to_end(&mut plaintext);
    let plaintext = Secret::new(plaintext);
    read.map_err(|e| damaged(&e))?;
    Ok(plaintext)
}

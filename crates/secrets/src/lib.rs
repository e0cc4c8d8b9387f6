//! What is secret: sops files, age, SSH keys as recipients, and the [`Bundle`] of ciphertexts that a host gets.
//!
//! Plaintext is a [`Secret`], which is never shown and is overwritten when it goes. What a secret is for and where it goes
//! is decided here as values; nothing here reads a file, starts a process or waits.

mod bundle;
mod declared;
mod identity;
mod install;
mod place;
mod recipient;
mod seal;
mod secret;
pub mod sops;

pub use bundle::{
    Bundle, BundleError, Ciphertext, CiphertextKind, Key, MAX_BUNDLE, NO_SECRETS, Source, UploadAt, wanted,
};
pub use declared::{Declared, DeclaredError, DeclaredSecret, DeclaredTemplate, MAX_DECLARED, Owned};
pub use identity::{Identity, InvalidIdentity};
pub use install::{Changes, Hashes, NotPlaced, Placed, PlacedKey, Trouble, changes, keys, secrets};
pub use place::{
    Account, Directory, FileId, FileName, FilePath, InvalidPlace, Permissions, SecretName, UnitName,
};
pub use recipient::{InvalidRecipient, Recipient};
pub use seal::{SealError, UnsealError, seal, unseal};
pub use secret::Secret;

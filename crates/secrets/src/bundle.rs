//! What is carried to a host of its secrets: ciphertext, and where each goes.

use std::collections::BTreeMap;

use bosco_model::Digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::seal::MAX_SEALED;
use crate::sops::{self, Format};
use crate::{Account, Directory, FileId, FileName, InvalidPlace, Permissions, SecretName};

/// The largest bundle, in bytes as it is carried.
pub const MAX_BUNDLE: usize = 16 << 20;
/// The bundle of a host that is to have no secrets, as it is carried.
pub const NO_SECRETS: &[u8] = br#"{"files":{},"secrets":{},"keys":{}}"#;
/// The most files, secrets or keys in a bundle.
const MAX_ENTRIES: usize = 10_000;

/// All ciphertexts for one host, and what they are for. It exists only if it is valid.
///
/// What is carried, hashed and kept are the bytes of [`Bundle::to_bytes`]; no other bytes are read as the same bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Parts);

/// How a bundle is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parts {
    files: BTreeMap<FileId, Ciphertext>,
    secrets: BTreeMap<SecretName, Source>,
    keys: BTreeMap<FileName, Key>,
}

/// A file as it is in the repository, or as it was sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ciphertext {
    /// How it is encrypted.
    pub kind: CiphertextKind,
    /// Its bytes.
    #[serde(with = "base64_text")]
    pub data: Vec<u8>,
}

/// How a file is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum CiphertextKind {
    /// A file of sops.
    #[serde(rename_all = "camelCase")]
    Sops {
        /// In which form it was before it was encrypted.
        format: Format,
    },
    /// A file of age, as [`crate::seal`] makes it.
    Age,
}

/// From which file a declared secret comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The file, encrypted by sops.
    pub file: FileId,
}

/// One of `deployment.keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// The file, encrypted by age.
    pub file: FileId,
    /// The folder that it is put in.
    pub dest_dir: Directory,
    /// Its name there.
    pub file_name: FileName,
    /// Who owns it.
    pub user: Account,
    /// Its group.
    pub group: Account,
    /// Who may read it.
    pub permissions: Permissions,
    /// When it is put there.
    pub upload_at: UploadAt,
}

/// When a key is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UploadAt {
    /// Before the system is activated.
    PreActivation,
    /// Once it is, as its user is made by the activation.
    PostActivation,
}

/// Why something is not a bundle.
#[derive(Debug, Error)]
pub enum BundleError {
    /// More than [`MAX_BUNDLE`].
    #[error("the secrets of a host have at most {MAX_BUNDLE} bytes together, these have {0}")]
    TooLarge(usize),
    /// More than [`MAX_ENTRIES`].
    #[error("a host has at most {MAX_ENTRIES} files of secrets, secrets and keys each")]
    TooMany,
    /// A file is too large to be opened.
    #[error("the file of secrets `{file}` has {bytes} bytes, and at most {limit} are read")]
    FileTooLarge {
        /// The file.
        file: FileId,
        /// Its size.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Something refers to a file that is not there.
    #[error("`{name}` comes from the file of secrets `{file}`, which is missing")]
    NoFile {
        /// The secret or key.
        name: String,
        /// The file.
        file: FileId,
    },
    /// A secret comes from a file of age's, or a key from one of sops'.
    #[error(
        "`{name}` comes from the file of secrets `{file}`, which is encrypted in another way than it must be"
    )]
    WrongKind {
        /// The secret or key.
        name: String,
        /// The file.
        file: FileId,
    },
    /// Two keys would overwrite each other.
    #[error("two keys have the same place, {0}")]
    SamePlace(String),
    /// It is not written as a bundle.
    #[error("the bundle of secrets can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// There is one way only to write a bundle, and this is another one.
    #[error("the bundle of secrets is not written the way bosco writes it")]
    NotCanonical,
}

/// The bundle that a host has to commit to come to what is named for it, by what it has committed: one without secrets takes those
/// of the host away that it has. `None`: the host never had any, and is to have none.
#[must_use]
pub fn wanted(named: Option<Digest>, committed: Option<Digest>) -> Option<Digest> {
    named.or_else(|| committed.map(|_| Digest::of(&[NO_SECRETS])))
}

impl Bundle {
    /// Puts a bundle together.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(
        files: BTreeMap<FileId, Ciphertext>,
        secrets: BTreeMap<SecretName, Source>,
        keys: BTreeMap<FileName, Key>,
    ) -> Result<Self, BundleError> {
        let bundle = Self(Parts { files, secrets, keys });
        bundle.check()?;
        Ok(bundle)
    }

    /// Reads the bytes of a bundle.
    ///
    /// # Errors
    /// [`BundleError`], where they are not exactly what [`Bundle::to_bytes`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge(bytes.len()));
        }
        let bundle = Self(serde_json::from_slice(bytes)?);
        bundle.check()?;
        if bundle.to_bytes()? == bytes { Ok(bundle) } else { Err(BundleError::NotCanonical) }
    }

    /// The bytes that are carried.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let bytes = serde_json::to_vec(&self.0)?;
        if bytes.len() > MAX_BUNDLE { Err(BundleError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// The files by their names.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<FileId, Ciphertext> {
        &self.0.files
    }

    /// Which file each declared secret comes from.
    #[must_use]
    pub fn secrets(&self) -> &BTreeMap<SecretName, Source> {
        &self.0.secrets
    }

    /// The `deployment.keys`, by the names of their units.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<FileName, Key> {
        &self.0.keys
    }

    fn check(&self) -> Result<(), BundleError> {
        let Parts { files, secrets, keys } = &self.0;
        if [files.len(), secrets.len(), keys.len()].into_iter().any(|count| count > MAX_ENTRIES) {
            return Err(BundleError::TooMany);
        }
        for (file, Ciphertext { kind, data }) in files {
            let limit = match kind {
                CiphertextKind::Sops { .. } => sops::MAX_FILE,
                CiphertextKind::Age => MAX_SEALED,
            };
            if data.len() > limit {
                return Err(BundleError::FileTooLarge { file: file.clone(), bytes: data.len(), limit });
            }
        }
        let of_kind = |name: &str, file: &FileId, right: fn(&CiphertextKind) -> bool| match files.get(file) {
            None => Err(BundleError::NoFile { name: name.to_owned(), file: file.clone() }),
            Some(found) if !right(&found.kind) => {
                Err(BundleError::WrongKind { name: name.to_owned(), file: file.clone() })
            }
            Some(_) => Ok(()),
        };
        for (name, source) in secrets {
            of_kind(name.as_str(), &source.file, |kind| matches!(kind, CiphertextKind::Sops { .. }))?;
        }
        let mut places = std::collections::BTreeSet::new();
        for (name, key) in keys {
            of_kind(name.as_str(), &key.file, |kind| matches!(kind, CiphertextKind::Age))?;
            if !places.insert((&key.dest_dir, &key.file_name)) {
                return Err(BundleError::SamePlace(format!("{}/{}", key.dest_dir, key.file_name)));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.data.len())
    }
}

impl Key {
    /// One with Colmena's defaults: `/run/keys/NAME`, of root, for nobody else, before the activation.
    ///
    /// # Errors
    /// None but that of a default that is not valid, which does not happen.
    pub fn with_defaults(name: &FileName, file: FileId) -> Result<Self, InvalidPlace> {
        Ok(Self {
            file,
            dest_dir: Directory::parse("/run/keys")?,
            file_name: name.clone(),
            user: Account::parse("root")?,
            group: Account::parse("root")?,
            permissions: Permissions::parse("0600")?,
            upload_at: UploadAt::PreActivation,
        })
    }
}

/// Bytes as a text in JSON.
mod base64_text {
    use std::borrow::Cow;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(Cow::<str>::deserialize(from)?.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secrets_are_a_bundle_and_take_those_away_that_a_host_has() {
        let none = Digest::of(&[NO_SECRETS]);
        assert_eq!(Digest::of(&[&Bundle::parse(NO_SECRETS).unwrap().to_bytes().unwrap()]), none);
        let [one, two] = ["1", "2"].map(|text| Digest::of(&[text.as_bytes()]));
        assert_eq!(wanted(None, None), None);
        assert_eq!(wanted(Some(two), Some(one)), Some(two));
        assert_eq!(wanted(None, Some(one)), Some(none));
        assert_eq!(wanted(None, Some(none)), Some(none), "it has come to that");
    }
}

//! What a system says of its secrets, in its toplevel's `etc/bosco/secrets.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sops::Format;
use crate::{Account, FilePath, Permissions, SecretName, UnitName};

/// The largest `etc/bosco/secrets.json` that is read, in bytes.
pub const MAX_DECLARED: usize = 16 << 20;

/// The version that is written, and read.
const VERSION: u64 = 1;

/// What is read first of it.
#[derive(Deserialize)]
struct Written {
    version: u64,
}

/// The secrets that a system wants, and the templates that it wants filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Declared {
    /// The secrets.
    pub secrets: Vec<DeclaredSecret>,
    /// The templates.
    pub templates: Vec<DeclaredTemplate>,
}

/// One secret, in sops-nix's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredSecret {
    /// Its name, which templates and the bundle know it by.
    pub name: SecretName,
    /// Which value of the file: keys with `/` between them. The whole file where it is empty, and always where the file is
    /// dotenv, ini or binary, as in sops-nix.
    pub key: String,
    /// The form of its file.
    pub format: Format,
    /// Whose it is, and where.
    #[serde(flatten)]
    pub owned: Owned,
    /// It has to be there before users are made: it is the password of one.
    #[serde(default)]
    pub needed_for_users: bool,
}

/// A text with the placeholders of secrets in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredTemplate {
    /// Its name.
    pub name: SecretName,
    /// The text, with `<SOPS:HASH:PLACEHOLDER>` for a secret, where HASH is the SHA-256 of its name.
    pub content: String,
    /// Whose it is, and where.
    #[serde(flatten)]
    pub owned: Owned,
}

/// What secrets and templates have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// Who owns it.
    pub owner: Account,
    /// Its group.
    pub group: Account,
    /// Who may read it.
    pub mode: Permissions,
    /// Where it is to be found.
    pub path: FilePath,
    /// Units to restart where it has changed.
    #[serde(default)]
    pub restart_units: Vec<UnitName>,
    /// Units to reload where it has changed.
    #[serde(default)]
    pub reload_units: Vec<UnitName>,
}

/// Why a system's secrets can't be read.
#[derive(Debug, Error)]
pub enum DeclaredError {
    /// More than [`MAX_DECLARED`].
    #[error("what the system says of its secrets has {0} bytes, and at most {MAX_DECLARED} are read")]
    TooLarge(usize),
    /// It is not what bosco's module writes.
    #[error("what the system says of its secrets can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version of bosco's module.
    #[error("what the system says of its secrets is of version {0}, and this bosco reads version {VERSION}")]
    Version(u64),
    /// Two of them would overwrite each other.
    #[error("two secrets of the system have the same name or path, `{0}`")]
    Twice(String),
    /// One would have to be a folder.
    #[error(
        "the secrets `{0}` and `{1}` can't both be there: the one would be a file and the folder of the other"
    )]
    Inside(String, String),
    /// Two of them would have one unit.
    #[error(
        "the secrets `{0}` and `{1}` have the same unit, {2}: `/` is `-` in its name; call one of them otherwise"
    )]
    SameUnit(String, String, String),
}

impl Declared {
    /// Reads `etc/bosco/secrets.json`.
    ///
    /// # Errors
    /// [`DeclaredError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DeclaredError> {
        if bytes.len() > MAX_DECLARED {
            return Err(DeclaredError::TooLarge(bytes.len()));
        }
        let Written { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(DeclaredError::Version(version));
        }
        let declared: Self = serde_json::from_slice(bytes)?;
        let (mut secrets, mut templates, mut paths) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let twice = |text: &str| Err(DeclaredError::Twice(text.to_owned()));
        for secret in &declared.secrets {
            if !secrets.insert(&secret.name) {
                return twice(secret.name.as_str());
            }
        }
        for template in &declared.templates {
            if !templates.insert(&template.name) {
                return twice(template.name.as_str());
            }
        }
        let owned = declared.secrets.iter().map(|secret| &secret.owned);
        for owned in owned.chain(declared.templates.iter().map(|template| &template.owned)) {
            if !paths.insert(&owned.path) {
                return twice(owned.path.as_str());
            }
        }
        let names = |for_users: bool| {
            let some = declared.secrets.iter().filter(move |secret| secret.needed_for_users == for_users);
            some.map(|secret| secret.name.to_string())
        };
        apart(&names(true).collect::<Vec<_>>())?;
        // The folder of templates is in that of secrets.
        let templates = declared.templates.iter().map(|template| format!("rendered/{}", template.name));
        apart(&names(false).chain(templates).collect::<Vec<_>>())?;
        let mut units: BTreeMap<String, &SecretName> = BTreeMap::new();
        for DeclaredSecret { name, .. } in &declared.secrets {
            let unit = format!("{}-key.service", name.as_str().replace('/', "-"));
            if let Some(other) = units.insert(unit.clone(), name) {
                return Err(DeclaredError::SameUnit(other.to_string(), name.to_string(), unit));
            }
        }
        Ok(declared)
    }
}

/// That none of some names below one folder is another one's folder.
fn apart(names: &[String]) -> Result<(), DeclaredError> {
    let mut all = BTreeSet::new();
    for name in names {
        if !all.insert(name.as_str()) {
            return Err(DeclaredError::Twice(name.clone()));
        }
    }
    for name in names {
        let mut folders = name.match_indices('/').map(|(at, _)| &name[..at]);
        if let Some(folder) = folders.find(|folder| all.contains(folder)) {
            return Err(DeclaredError::Inside(folder.to_owned(), name.clone()));
        }
    }
    Ok(())
}

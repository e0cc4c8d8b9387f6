//! What a fleet's source says of a host's secrets.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The secrets of a host: where each comes from, before anything is encrypted or opened. It can be read, and not be written
/// down: a key may be in clear in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeclaredSecrets {
    /// The sops files, by their paths as Nix knows them.
    pub files: BTreeMap<String, SecretFile>,
    /// From which of them each declared secret comes.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `deployment.keys`.
    pub keys: BTreeMap<String, DeclaredKey>,
    /// Whether the system installs them by itself when it boots.
    pub at_boot: bool,
}

impl DeclaredSecrets {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.secrets.is_empty() && self.keys.is_empty()
    }
}

/// Where a declared secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecretSource {
    /// Which file, by its path as Nix knows it.
    pub file: String,
    /// Which value of it: keys with `/` between them; all of the file where it is empty.
    pub key: String,
}

/// A sops file, as it is in the repository: ciphertext.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct SecretFile {
    /// Its form before it was encrypted, where that is not the one of its name: `yaml`, `json`, `dotenv`, `ini` or `binary`.
    #[serde(default)]
    pub format: Option<String>,
    /// What is in it.
    pub text: String,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.text.len())
    }
}

/// One of `deployment.keys`, as Colmena has them. Exactly one of `text`, `key_file` and `key_command` is set.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredKey {
    /// Its name in its folder.
    pub name: String,
    /// What is in it.
    #[serde(default)]
    pub text: Option<String>,
    /// A file on the operator's machine that has it.
    #[serde(default)]
    pub key_file: Option<String>,
    /// A command there that prints it.
    #[serde(default)]
    pub key_command: Option<Vec<String>>,
    /// The folder on the host.
    pub dest_dir: String,
    /// Who owns it.
    pub user: String,
    /// Its group.
    pub group: String,
    /// Who may read it, in octal digits.
    pub permissions: String,
    /// When it is put there.
    pub upload_at: UploadAt,
}

impl fmt::Debug for DeclaredKey {
    /// Where it goes, and nothing of what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.dest_dir, self.name)
    }
}

/// When one of `deployment.keys` is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UploadAt {
    /// Before the system is activated.
    PreActivation,
    /// Once it is.
    PostActivation,
}

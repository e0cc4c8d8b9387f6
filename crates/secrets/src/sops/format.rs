//! In which form a file is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In which form a file was before sops encrypted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// YAML, one document.
    Yaml,
    /// JSON, an object.
    Json,
    /// `KEY=VALUE` in lines.
    Dotenv,
    /// Sections of `KEY = VALUE`.
    Ini,
    /// Anything else, in whole.
    Binary,
}

impl Format {
    /// The form that sops takes a file of this name to have.
    #[must_use]
    pub fn of_name(path: &str) -> Self {
        let has = |ending: &str| path.ends_with(ending);
        if has(".yaml") || has(".yml") {
            Self::Yaml
        } else if has(".json") {
            Self::Json
        } else if has(".env") {
            Self::Dotenv
        } else if has(".ini") {
            Self::Ini
        } else {
            Self::Binary
        }
    }

    /// Whether a secret with this key is all of its file: one without a key is, and so is each of a form that is not taken apart.
    #[must_use]
    pub fn is_whole(self, key: &str) -> bool {
        key.is_empty() || !matches!(self, Self::Yaml | Self::Json)
    }

    /// Its name, as sops and sops-nix have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

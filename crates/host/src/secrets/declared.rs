//! What a system says of its secrets, in `etc/bosco/secrets.json` of its toplevel.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::identities::Age;

/// Where it is.
const FILE: &str = "etc/bosco/secrets.json";
/// The longest that it may be, in bytes.
const LONGEST: u64 = 4 << 20;

/// What a system says of its secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct System {
    /// The keys that open them.
    pub age: Age,
    /// The secrets and templates.
    #[serde(flatten)]
    pub declared: Declared,
}

/// Secrets and templates.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Declared {
    pub secrets: Vec<Value>,
    pub templates: Vec<Value>,
}

/// What a system declares; `None` where it installs nothing by itself.
///
/// # Errors
/// In words, where it can't be read.
pub(crate) fn of(toplevel: &Path) -> Result<Option<System>, String> {
    let path = toplevel.join(FILE);
    let wrong = |why: String| format!("{} can't be read: {why}", path.display());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(wrong("it is longer than 4 MiB".into()));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| wrong(error.to_string()))
}

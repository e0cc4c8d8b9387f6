//! What a system says of its secrets, in `etc/bosco/secrets.json` of its toplevel.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bosco_secrets::{Declared, MAX_DECLARED};
use serde::Deserialize;

use super::identities::Age;

/// Where it is.
const FILE: &str = "etc/bosco/secrets.json";

/// What a system says of its secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    /// The keys that open them.
    pub age: Age,
    /// The secrets and templates.
    pub declared: Declared,
    /// The names of its `deployment.keys` that have a unit.
    pub keys: Vec<String>,
}

impl System {
    /// The names of all that it wants to have there.
    pub(crate) fn names(&self) -> Vec<String> {
        let secrets = self.declared.secrets.iter().map(|secret| secret.name.to_string());
        secrets.chain(self.keys.iter().cloned()).collect()
    }

    /// What of it has to be there before users are made, and nothing else.
    pub(crate) fn for_users(mut self) -> Self {
        self.declared.secrets.retain(|secret| secret.needed_for_users);
        self.declared.templates.clear();
        self.keys.clear();
        self
    }
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    age: Age,
    #[serde(default)]
    keys: Vec<String>,
}

/// What a system declares; `None` where it installs nothing by itself.
///
/// # Errors
/// In words, where it can't be read.
pub(crate) fn of(toplevel: &Path) -> Result<Option<System>, String> {
    let path = toplevel.join(FILE);
    let wrong = |why: &dyn std::fmt::Display| format!("{} can't be read: {why}", path.display());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let mut text = Vec::new();
    file.take(MAX_DECLARED as u64 + 1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
    let declared = Declared::parse(&text).map_err(|error| wrong(&error))?;
    let Keys { age, keys } = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    Ok(Some(System { age, declared, keys }))
}

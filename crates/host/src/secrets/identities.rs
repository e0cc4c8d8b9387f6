//! What opens secrets on this host.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bosco_secrets::{Identity, Secret};
use serde::Deserialize;

use super::way::Way;
use crate::durable;
use crate::places::Places;

/// The longest file of keys, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where a system says that its keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Age {
    /// Private keys of OpenSSH.
    pub ssh_key_paths: Vec<String>,
    /// A file of age's.
    pub key_file: Option<String>,
    /// Whether that is made where there is none.
    pub generate_key: bool,
}

/// The keys that a host has, and why it has no others.
pub(crate) struct Identities {
    /// The keys.
    pub found: Vec<Identity>,
    /// What is wrong with the others.
    pub missing: Vec<String>,
}

impl Identities {
    /// The host's own key, and those that its system names.
    pub(crate) fn of(places: &Places, age: &Age) -> Self {
        let mut all = Self { found: Vec::new(), missing: Vec::new() };
        let named = age.ssh_key_paths.iter().chain(&age.key_file).map(|path| places.absolute(path));
        let own = places.host_key();
        let mut seen = Vec::new();
        for path in named.chain([own.clone()]) {
            if seen.contains(&path) {
                continue;
            }
            match read(&path) {
                Ok(found) => all.found.extend(found),
                // Which it has always, and need not use.
                Err(_) if path == own => {}
                Err(why) => all.missing.push(why),
            }
            seen.push(path);
        }
        all
    }

    /// To whom something has to be encrypted for this host to open it, in words.
    pub(crate) fn words(&self) -> String {
        let recipients: Vec<&str> = self.found.iter().map(|identity| identity.recipient().as_str()).collect();
        let keys = match recipients.as_slice() {
            [] => "this host has no key that opens secrets".to_owned(),
            recipients => format!("this host opens what is encrypted to {}", recipients.join(", ")),
        };
        self.missing.iter().fold(keys, |words, why| format!("{words}; {why}"))
    }
}

fn read(path: &Path) -> Result<Vec<Identity>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::with_capacity(8192);
    let read = file.take(LONGEST).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| wrong("it is no text".into()))?;
    Identity::parse_all(text).map_err(|error| wrong(error.to_string()))
}

/// Makes the key of a system that wants one made, where there is none.
///
/// # Errors
/// In words.
pub(crate) fn generate(places: &Places, age: &Age) -> Result<(), String> {
    let Some(path) = age.key_file.as_ref().filter(|_| age.generate_key) else { return Ok(()) };
    let path = places.absolute(path);
    if path.exists() {
        return Ok(());
    }
    let wrong = |error: &dyn std::fmt::Display| format!("can't make {}: {error}", path.display());
    let (_way, at) = Way::to_file(&path, Some(0o700)).map_err(|error| wrong(&error))?;
    let (identity, text) = Identity::generate();
    let mut file = format!("# public key: {}\n", identity.recipient()).into_bytes();
    file.reserve(text.expose().len() + 1);
    file.extend(text.expose());
    file.push(b'\n');
    durable::write_private(&at, Secret::new(file).expose()).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn a_key_is_made_once_and_found() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let age = Age { key_file: Some("/var/lib/keys/age".into()), generate_key: true, ..Age::default() };
        let none = Identities::of(&places, &age);
        assert!(none.found.is_empty());
        assert!(
            none.words().contains("no key that opens secrets; ") && none.words().contains("var/lib/keys/age")
        );
        generate(&places, &age).unwrap();
        let path = dir.path().join("var/lib/keys/age");
        let text = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let one = Identities::of(&places, &age);
        assert_eq!(one.found.len(), 1);
        assert!(one.words().contains("age1"), "{}", one.words());
        generate(&places, &age).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
    }
}

//! What of a host's secrets is where, since it was booted: names and places only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files;
use crate::durable;
use crate::places::Places;

/// What has been put where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Inventory {
    /// `deployment.keys`, by name.
    pub keys: BTreeMap<String, PathBuf>,
    /// Secrets and templates of the system, by name, with those that are needed for users.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Links of theirs at other places, and where they lead.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Secrets that the system declares and the bundle does not have any more, and why they are not there.
    pub absent: BTreeMap<String, String>,
    /// What was not there before.
    #[serde(skip)]
    pub came: BTreeSet<String>,
    /// What is not there any more.
    #[serde(skip)]
    pub went: BTreeSet<String>,
}

fn file(places: &Places) -> PathBuf {
    places.run().join("secrets.json")
}

impl Inventory {
    /// What is known since the boot.
    pub(crate) fn load(places: &Places) -> Self {
        let text = fs::read(file(places)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it down, for this boot.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn save(&self, places: &Places) -> Result<(), String> {
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        let path = file(places);
        files::make_private(&places.run())
            .map_err(|error| format!("can't make {}: {error}", path.display()))?;
        durable::write_private(&path, &text)
    }

    /// That a secret or key is there.
    ///
    /// # Errors
    /// In words: why it is not.
    pub(crate) fn present(&self, name: &str) -> Result<(), String> {
        if let Some(why) = self.absent.get(name) {
            return Err(format!("`{name}` is not there: {why}"));
        }
        let Some(path) = self.secrets.get(name).or_else(|| self.keys.get(name)) else {
            return Err(format!(
                "`{name}` is not there: nothing of that name was installed since the boot; `bosco apply` brings it"
            ));
        };
        if path.exists() {
            Ok(())
        } else {
            Err(format!("`{name}` is not there: {} is missing", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn what_is_not_there_is_said_with_its_reason() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        dir.write("run/keys/token", "x");
        let mut inventory = Inventory::load(&places);
        assert!(inventory.present("token").unwrap_err().contains("`bosco apply` brings it"));
        inventory.keys.insert("token".into(), dir.path().join("run/keys/token"));
        inventory.absent.insert("db".into(), "it was revoked".into());
        inventory.save(&places).unwrap();
        let inventory = Inventory::load(&places);
        inventory.present("token").unwrap();
        assert_eq!(inventory.present("db").unwrap_err(), "`db` is not there: it was revoked");
        fs::remove_file(dir.path().join("run/keys/token")).unwrap();
        assert!(inventory.present("token").unwrap_err().ends_with("token is missing"));
    }
}

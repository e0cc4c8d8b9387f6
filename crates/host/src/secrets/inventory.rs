//! What of a host's secrets is where, since it was booted, and on its disks since ever: names and places only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    /// Where else keys may be: of an installation that was cut short, or from before a boot.
    pub perhaps: BTreeSet<PathBuf>,
    /// The set that each folder of secrets has been made a link to.
    pub sets: BTreeMap<PathBuf, PathBuf>,
    /// Sets that are being written, and that no link leads to yet.
    pub half: BTreeSet<PathBuf>,
    /// Secrets that the system declares and the bundle does not have any more, and why they are not there.
    pub absent: BTreeMap<String, String>,
    /// Secrets that should be there and can't be had, and why.
    pub failed: BTreeMap<String, String>,
    /// What was not there before.
    #[serde(skip)]
    pub came: BTreeSet<String>,
    /// What is not there any more.
    #[serde(skip)]
    pub went: BTreeSet<String>,
}

/// What of it outlasts a boot: who knows of it then takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Lasting {
    keys: BTreeSet<PathBuf>,
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Lasting {
    fn load(places: &Places) -> Self {
        let text = fs::read(lasting_file(places)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn save(&self, places: &Places) -> Result<(), String> {
        let path = lasting_file(places);
        let text = serde_json::to_vec(self).map_err(|error| wrong(&path, &error))?;
        files::make_private(&places.state()).map_err(|error| wrong(&path, &error))?;
        durable::write_private(&path, &text)
    }

    fn is_part_of(&self, other: &Self) -> bool {
        self.keys.is_subset(&other.keys)
            && self.links.iter().all(|(path, to)| other.links.get(path) == Some(to))
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("can't write {}: {error}", path.display())
}

fn file(places: &Places) -> PathBuf {
    places.run().join("secrets.json")
}

fn lasting_file(places: &Places) -> PathBuf {
    places.state().join("placed.json")
}

impl Inventory {
    /// What is known.
    pub(crate) fn load(places: &Places) -> Self {
        let text = fs::read(file(places)).unwrap_or_default();
        let mut inventory: Self = serde_json::from_slice(&text).unwrap_or_default();
        let Lasting { keys, links } = Lasting::load(places);
        let known: BTreeSet<&PathBuf> = inventory.keys.values().collect();
        let perhaps: Vec<PathBuf> = keys.into_iter().filter(|path| !known.contains(path)).collect();
        inventory.perhaps.extend(perhaps);
        for (path, target) in links {
            inventory.links.entry(path).or_insert(target);
        }
        inventory
    }

    /// Writes it down, for this boot, and for the next ones what is on a disk.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn save(&self, places: &Places) -> Result<(), String> {
        let path = file(places);
        let text = serde_json::to_vec(self).map_err(|error| wrong(&path, &error))?;
        files::make_private(&places.run()).map_err(|error| wrong(&path, &error))?;
        durable::write_private(&path, &text)?;
        let lasts = |path: &&PathBuf| !path.starts_with(places.absolute("/run"));
        let lasting = Lasting {
            keys: self.keys.values().chain(&self.perhaps).filter(lasts).cloned().collect(),
            links: self
                .links
                .iter()
                .filter(|(path, _)| lasts(path))
                .map(|(path, to)| (path.clone(), to.clone()))
                .collect(),
        };
        let known = Lasting::load(places);
        if lasting == known {
            return Ok(());
        }
        let written = lasting.save(places);
        // On a full disk too much is known then, which takes nothing away that is wanted.
        if lasting.is_part_of(&known) { Ok(()) } else { written }
    }

    /// Whether nothing was put anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.perhaps.is_empty() && self.sets.is_empty() && self.half.is_empty()
    }

    /// Says of all that is not there why it is not.
    pub(crate) fn blame(&mut self, names: Vec<String>, why: &str) {
        for name in names {
            if !self.secrets.contains_key(&name) && !self.keys.contains_key(&name) {
                self.failed.insert(name, why.to_owned());
            }
        }
    }

    /// That a secret or key is there.
    ///
    /// # Errors
    /// In words: why it is not.
    pub(crate) fn present(&self, name: &str) -> Result<(), String> {
        if let Some(why) = self.failed.get(name).or_else(|| self.absent.get(name)) {
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

    #[test]
    fn what_is_on_a_disk_is_known_after_a_boot_and_what_is_in_memory_is_not() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let (disk, memory) = (dir.path().join("var/lib/key"), dir.path().join("run/keys/key"));
        let link = (dir.path().join("var/lib/link"), dir.path().join("run/secrets/token"));
        let mut inventory = Inventory::default();
        inventory.keys.insert("disk".into(), disk.clone());
        inventory.keys.insert("memory".into(), memory);
        inventory.links.insert(link.0.clone(), link.1.clone());
        inventory.save(&places).unwrap();
        assert_eq!(Inventory::load(&places), inventory);
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        let booted = Inventory::load(&places);
        assert_eq!(booted.perhaps.iter().collect::<Vec<_>>(), [&disk]);
        assert_eq!(booted.links.into_iter().collect::<Vec<_>>(), [link]);
        assert!(booted.keys.is_empty());
        Inventory::default().save(&places).unwrap();
        assert!(Inventory::load(&places).is_empty());
    }

    #[test]
    fn why_nothing_could_be_installed_is_said_of_what_is_not_there() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        dir.write("run/keys/token", "x");
        let mut inventory = Inventory::default();
        inventory.keys.insert("token".into(), dir.path().join("run/keys/token"));
        inventory.blame(vec!["token".into(), "db".into()], "the secrets can't be read");
        inventory.save(&places).unwrap();
        let inventory = Inventory::load(&places);
        inventory.present("token").unwrap();
        assert_eq!(inventory.present("db").unwrap_err(), "`db` is not there: the secrets can't be read");
    }
}

//! The text of a unit, and what a change of it asks of the unit that runs: what NixOS' switch-to-configuration-ng does.

use std::collections::{BTreeMap, BTreeSet};

/// A unit's file with its drop-ins: for each section, for each key, the values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile(BTreeMap<String, BTreeMap<String, Vec<String>>>);

/// What a change asks of the unit that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Nothing,
    Reload,
    Restart,
}

const RELOAD_TRIGGERS: &str = "X-Reload-Triggers";
/// Keys of `[Unit]` that a running unit need not follow.
const COSMETIC: [&str; 12] = [
    "Description",
    "Documentation",
    "OnFailure",
    "OnSuccess",
    "OnFailureJobMode",
    "IgnoreOnIsolate",
    "StopWhenUnneeded",
    "RefuseManualStart",
    "RefuseManualStop",
    "AllowIsolate",
    "CollectMode",
    "SourcePath",
];

impl UnitFile {
    /// Adds a file's text: the unit's own first, then that of each drop-in.
    pub fn add(&mut self, text: &str) {
        // An empty value takes back what other files have said before, and not what this one says.
        let mut said: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
        let mut section = "";
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
                if section != "Install" {
                    self.0.entry(section.to_owned()).or_default();
                }
                continue;
            }
            let mut line = line.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().unwrap_or_default());
            }
            if let Some((key, value)) = line.split_once('=')
                && !matches!(section, "" | "Install")
            {
                said.entry((section, key.trim().to_owned())).or_default().push(value.trim().to_owned());
            }
        }
        for ((section, key), values) in said {
            let known = self.0.entry(section.to_owned()).or_default().entry(key).or_default();
            for value in values {
                if value.is_empty() {
                    known.clear();
                } else {
                    known.push(value);
                }
            }
        }
    }

    /// A flag; the last value counts.
    pub(super) fn flag(&self, section: &str, key: &str, default: bool) -> bool {
        self.values(section, key)
            .last()
            .map_or(default, |value| matches!(value.as_str(), "1" | "yes" | "true" | "on"))
    }

    /// All values of a key.
    pub(super) fn values(&self, section: &str, key: &str) -> &[String] {
        self.0.get(section).and_then(|keys| keys.get(key)).map_or(&[], Vec::as_slice)
    }

    /// What a change from this text to another one asks.
    pub(super) fn change_to(&self, new: &Self) -> Asks {
        let mut asks = Asks::Nothing;
        let none = BTreeMap::new();
        let sections: BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        for section in sections {
            let (old, new) = (self.0.get(section), new.0.get(section));
            if section != "Unit" && (old.is_none() || new.is_none()) {
                return Asks::Restart;
            }
            let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
                match (section.as_str(), key.as_str()) {
                    // Triggers that are gone are no reason.
                    ("Unit", RELOAD_TRIGGERS) if new.contains_key(key) => asks = Asks::Reload,
                    ("Unit", key) if key == RELOAD_TRIGGERS || COSMETIC.contains(&key) => {}
                    ("Mount", "Options") if old.contains_key(key) && new.contains_key(key) => {
                        asks = Asks::Reload;
                    }
                    _ => return Asks::Restart,
                }
            }
        }
        asks
    }
}

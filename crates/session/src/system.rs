//! Reading what a host says of the system that it runs. Pure, and distrustful as the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use bosco_model::{BOOT_PARTS, StorePath, System, UnitFile, Units};

/// The most paths, and the most units, that are kept.
const MOST: usize = 100_000;
/// The most that is kept of a unit's text, in bytes.
const MOST_TEXT: usize = 64 * 1024;

/// What a host has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    paths: Vec<StorePath>,
    sizes: Vec<u64>,
    texts: BTreeMap<String, String>,
    units: Units,
    boot: BTreeMap<String, String>,
    version: Option<String>,
}

/// The name of a unit, if it is one: it is shown to people.
pub(crate) fn unit(name: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c);
    (name.len() < 256 && name.contains('.') && name.chars().all(is_part)).then(|| name.to_owned())
}

impl Said {
    /// Takes one fact.
    pub(crate) fn take(&mut self, key: &str, value: &str) {
        match key {
            "path" if self.paths.len() < MOST => self.paths.extend(StorePath::parse(value)),
            "size" if self.sizes.len() < MOST => self.sizes.extend(value.parse::<u64>()),
            "unit" if self.texts.len() < MOST => self.line(value),
            "wants" if self.units.wants.len() < MOST => {
                let wants = value.strip_prefix("./").and_then(|value| value.split_once('/'));
                let wants = wants.and_then(|(folder, wanted)| {
                    let (by, _) = folder.rsplit_once('.')?;
                    Some((unit(by)?, unit(wanted)?))
                });
                self.units.wants.extend(wants);
            }
            "boot" => {
                let (name, is) = value.split_once(' ').unwrap_or((value, ""));
                let is: String = is.trim().chars().filter(|c| !c.is_control()).collect();
                if name == "nixos-version" {
                    self.version = Some(is);
                } else if BOOT_PARTS.iter().any(|(known, _)| *known == name) {
                    self.boot.insert(name.to_owned(), is);
                }
            }
            _ => {}
        }
    }

    /// One line of a unit's file, or of what is added to it: `./NAME LINE`.
    fn line(&mut self, value: &str) {
        let (file, line) = value.split_once(' ').unwrap_or((value, ""));
        let Some(file) = file.strip_prefix("./") else { return };
        let text = self.texts.entry(file.to_owned()).or_default();
        if text.len() + line.len() < MOST_TEXT {
            text.push_str(line);
            text.push('\n');
        }
    }

    /// The system that it is. `None` where what was said does not fit together.
    pub(crate) fn system(mut self, current: &StorePath) -> Option<System> {
        if self.paths.len() != self.sizes.len() || !self.paths.contains(current) {
            return None;
        }
        // A unit's own file comes before what is added to it, whatever they are called.
        let (added, own): (Vec<_>, Vec<_>) = self.texts.iter().partition(|(file, _)| file.contains('/'));
        for (file, text) in own.into_iter().chain(added) {
            let name =
                file.split_once('/').map_or(Some(file.as_str()), |(folder, _)| folder.strip_suffix(".d"));
            if let Some(name) = name.and_then(unit) {
                let file = self.units.files.entry(name).or_insert_with(|| Arc::new(UnitFile::default()));
                Arc::make_mut(file).add(text);
            }
        }
        Some(System {
            toplevel: current.clone(),
            version: self.version,
            closure: self.paths.into_iter().zip(self.sizes).collect(),
            units: Some(self.units),
            boot: self.boot,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_system_is_read_from_what_its_host_says() {
        let path = format!("/nix/store/{}-nixos-system-web", "0".repeat(32));
        let toplevel = StorePath::parse(&path).unwrap();
        let mut said = Said::default();
        for (key, value) in [
            ("path", path.as_str()),
            ("size", "120"),
            ("boot", "kernel /nix/store/k/bzImage"),
            ("boot", "nixos-version 26.05 "),
            ("boot", "anything else"),
            ("unit", "./a.service.d/x.conf [Service]"),
            ("unit", "./a.service.d/x.conf ExecStart=/b"),
            ("unit", "./a.service [Service]"),
            ("unit", "./a.service ExecStart=/a"),
            ("unit", "/etc/passwd x"),
            ("wants", "./multi-user.target.wants/a.service"),
            ("wants", "./multi-user.target.wants/\u{1b}[31m.service"),
        ] {
            said.take(key, value);
        }
        let system = said.system(&toplevel).unwrap();
        let mut file = UnitFile::default();
        file.add("[Service]\nExecStart=/a\n");
        file.add("[Service]\nExecStart=/b\n");
        let units = system.units.unwrap();
        assert_eq!(units.files, [("a.service".to_owned(), Arc::new(file))].into());
        assert_eq!(units.wants, [("multi-user.target".to_owned(), "a.service".to_owned())].into());
        assert_eq!((system.closure[&toplevel], system.version.as_deref()), (120, Some("26.05")));
        assert_eq!(system.boot.keys().collect::<Vec<_>>(), ["kernel"]);
    }

    #[test]
    fn what_does_not_fit_together_is_not_known() {
        let path = format!("/nix/store/{}-x", "0".repeat(32));
        let mut said = Said::default();
        said.take("path", &path);
        assert_eq!(said.system(&StorePath::parse(&path).unwrap()), None, "a path without its size");
    }

    proptest! {
        #[test]
        fn nothing_that_a_host_says_makes_reading_it_panic(
            facts in prop::collection::vec(("(path|size|unit|wants|boot)", "(\\./)?[a.d/]{0,9} ?\\PC{0,20}"), 0..10),
        ) {
            let mut said = Said::default();
            for (key, value) in facts {
                said.take(&key, &value);
            }
            let _ = said.system(&StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap());
        }
    }
}

//! The text of a unit: reading it, and telling whether a change of it matters to the running unit. Pure.

use std::collections::BTreeMap;

/// A unit's file with its drop-ins: for each section, for each key, the values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitFile {
    sections: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// Whether the running unit must follow a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Reload,
    Restart,
}

/// Keys of `[Unit]` whose change says nothing about the running unit.
const COSMETIC: &[&str] = &[
    RELOAD_TRIGGERS,
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
const RELOAD_TRIGGERS: &str = "X-Reload-Triggers";

impl UnitFile {
    /// Adds a file's text: the unit's own first, then each drop-in.
    pub(crate) fn add(&mut self, text: &str) {
        // What a file says of a key is gathered before it meets what was said earlier, because an empty value takes
        // back everything.
        let mut said: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut section = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim().to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().unwrap_or_default().trim());
            }
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
                if section != "Install" {
                    self.sections.entry(section.clone()).or_default();
                }
            } else if let Some((key, value)) = line.split_once('=')
                && !section.is_empty()
                && section != "Install"
            {
                let key = (section.clone(), key.trim().to_owned());
                said.entry(key).or_default().push(unquote(value.trim()).to_owned());
            }
        }
        for ((section, key), values) in said {
            let known = self.sections.entry(section).or_default().entry(key).or_default();
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
    pub(crate) fn flag(&self, section: &str, key: &str, default: bool) -> bool {
        self.values(section, key)
            .last()
            .map_or(default, |value| matches!(value.as_str(), "1" | "yes" | "true" | "on"))
    }

    /// All values of a key.
    pub(crate) fn values(&self, section: &str, key: &str) -> &[String] {
        self.sections.get(section).and_then(|keys| keys.get(key)).map_or(&[], Vec::as_slice)
    }

    /// What a change from this text to another asks of the running unit.
    pub(crate) fn change_to(&self, new: &Self) -> Change {
        let mut change = Change::None;
        let sections =
            self.sections.keys().chain(new.sections.keys().filter(|s| !self.sections.contains_key(*s)));
        for section in sections {
            let (old, new) = (self.sections.get(section), new.sections.get(section));
            // A section that came or went matters even where it is empty; `[Unit]` only through its keys.
            if section != "Unit" && (old.is_none() || new.is_none()) {
                return Change::Restart;
            }
            let (old, new) = (old.cloned().unwrap_or_default(), new.cloned().unwrap_or_default());
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            for key in keys {
                if old.get(key) == new.get(key) {
                    continue;
                }
                match (section.as_str(), key.as_str()) {
                    // Triggers that are gone are no reason to reload.
                    ("Unit", RELOAD_TRIGGERS) if new.contains_key(key) => change = Change::Reload,
                    ("Unit", key) if COSMETIC.contains(&key) => {}
                    ("Mount", "Options") if old.contains_key(key) && new.contains_key(key) => {
                        change = Change::Reload;
                    }
                    _ => return Change::Restart,
                }
            }
        }
        change
    }
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            && !inner.contains(quote)
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> UnitFile {
        let mut file = UnitFile::default();
        file.add(text);
        file
    }

    fn change(old: &str, new: &str) -> Change {
        unit(old).change_to(&unit(new))
    }

    #[test]
    fn a_drop_in_adds_and_an_empty_value_takes_back() {
        let mut file = unit("[Service]\nExecStart=/one\nEnvironment=A=1\n");
        file.add("[Service]\nExecStart=\nExecStart=/two\nEnvironment=B=2\n");
        assert_eq!(file.values("Service", "ExecStart"), ["/two"]);
        assert_eq!(file.values("Service", "Environment"), ["A=1", "B=2"]);
    }

    #[test]
    fn escapes_comments_and_continued_lines_are_read_as_systemd_reads_them() {
        let file =
            unit("# no\n[Unit]\nAfter=dev-disk-by\\x2dlabel-root.device\n[Service]\nExecStart=/a \\\n  -b\n");
        assert_eq!(file.values("Unit", "After"), ["dev-disk-by\\x2dlabel-root.device"]);
        assert_eq!(file.values("Service", "ExecStart"), ["/a -b"]);
    }

    #[test]
    fn the_last_value_of_a_flag_counts() {
        let file = unit("[Service]\nX-RestartIfChanged=false\nX-RestartIfChanged=yes\n");
        assert!(file.flag("Service", "X-RestartIfChanged", false));
        assert!(file.flag("Service", "X-StopIfChanged", true));
    }

    #[test]
    fn install_sections_and_cosmetic_keys_do_not_matter() {
        assert_eq!(
            change("[Unit]\nDescription=a\n", "[Unit]\nDescription=b\n[Install]\nWantedBy=x\n"),
            Change::None
        );
        assert_eq!(change("[Unit]\nDescription=a\n", ""), Change::None);
        assert_eq!(change("", "[Unit]\nDocumentation=a\n"), Change::None);
    }

    #[test]
    fn a_key_that_comes_goes_or_changes_means_a_restart() {
        for (old, new) in [
            ("[Service]\nExecStart=/a\n", "[Service]\nExecStart=/b\n"),
            ("[Service]\nExecStart=/a\n", "[Service]\n"),
            ("[Service]\n", "[Service]\nUser=me\n"),
            ("[Service]\n", ""),
            ("", "[Timer]\n"),
            ("[Unit]\nX-Restart-Triggers=/a\n", "[Unit]\nX-Restart-Triggers=/b\n"),
        ] {
            assert_eq!(change(old, new), Change::Restart, "from {old:?} to {new:?}");
        }
    }

    #[test]
    fn reload_triggers_and_mount_options_mean_a_reload() {
        assert_eq!(
            change("[Unit]\nX-Reload-Triggers=/a\n", "[Unit]\nX-Reload-Triggers=/b\n"),
            Change::Reload
        );
        assert_eq!(change("", "[Unit]\nX-Reload-Triggers=/b\n"), Change::Reload);
        assert_eq!(change("[Unit]\nX-Reload-Triggers=/a\n", "[Unit]\n"), Change::None);
        assert_eq!(change("[Mount]\nOptions=ro\n", "[Mount]\nOptions=rw\n"), Change::Reload);
        assert_eq!(change("[Mount]\nType=ext4\n", "[Mount]\nType=btrfs\n"), Change::Restart);
        // A restart outweighs a reload.
        let (old, new) = (
            "[Unit]\nX-Reload-Triggers=/a\n[Service]\nUser=a\n",
            "[Unit]\nX-Reload-Triggers=/b\n[Service]\nUser=b\n",
        );
        assert_eq!(change(old, new), Change::Restart);
    }
}

//! Which units change from one system to another, as NixOS' switch-to-configuration-ng decides it. What it finds out only
//! on the machine, as mounts and what activation scripts ask for, is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::unit_file::{Asks, UnitFile};

/// The units of a system: what is in its etc/systemd/system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    /// Units that can run, by name, with their drop-ins. A template is one of them.
    pub files: BTreeMap<String, Arc<UnitFile>>,
    /// Which unit (the first) has which other one start with it.
    pub wants: BTreeSet<(String, String)>,
}

/// What becomes of units. One that is stopped and started anew is restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UnitChanges {
    /// They are not there any more.
    pub stop: BTreeSet<String>,
    /// They are new.
    pub start: BTreeSet<String>,
    /// They follow a change.
    pub restart: BTreeSet<String>,
    /// They follow it without an end.
    pub reload: BTreeSet<String>,
    /// They have changed, and go on as they are.
    pub keep: BTreeSet<String>,
}

impl UnitChanges {
    /// Whether nothing becomes of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.stop, &self.start, &self.restart, &self.reload, &self.keep].into_iter().all(BTreeSet::is_empty)
    }
}

impl Units {
    /// A unit's file: its own, or its template's.
    fn file(&self, unit: &str) -> Option<&UnitFile> {
        let template = || {
            let (template, _) = unit.split_once('@')?;
            let (_, suffix) = unit.rsplit_once('.')?;
            self.files.get(&format!("{template}@.{suffix}"))
        };
        self.files.get(unit).or_else(template).map(Arc::as_ref)
    }

    /// The units that are active where nobody has said which: all that are there and start with others.
    fn usually_active(&self) -> BTreeSet<String> {
        let both = self.wants.iter().flat_map(|(wants, unit)| [wants, unit]);
        both.filter(|unit| self.file(unit).is_some() || unit.ends_with(".target")).cloned().collect()
    }

    /// What becomes of the units that are active, on the way to other ones.
    pub(super) fn changes_to(&self, new: &Self, active: Option<&BTreeSet<String>>) -> UnitChanges {
        let usually;
        let active = match active {
            Some(active) => active,
            None => {
                usually = self.usually_active();
                &usually
            }
        };
        let mut changes = UnitChanges::default();
        for unit in active {
            // What no system declares is left alone.
            let Some(before) = self.file(unit) else { continue };
            match new.file(unit) {
                None if before.flag("Unit", "X-StopOnRemoval", true) => _ = changes.stop.insert(unit.clone()),
                None => {}
                Some(_) if unit.ends_with(".target") => {}
                Some(after) => match before.change_to(after) {
                    Asks::Nothing => {}
                    Asks::Reload => _ = changes.reload.insert(unit.clone()),
                    Asks::Restart => changes.changed(unit, after, active),
                },
            }
        }
        changes.reload = &changes.reload - &changes.restart;
        changes.stop = &changes.stop - &changes.restart;
        changes.start = self.started(new, active);
        changes
    }

    /// What comes with what is active already, or is started besides.
    fn started(&self, new: &Self, active: &BTreeSet<String>) -> BTreeSet<String> {
        let mut started = BTreeSet::new();
        // Each round finds what the one before has started: there are no more rounds than units.
        loop {
            let is_up = |unit: &String| active.contains(unit) || started.contains(unit);
            let comes = |(wants, unit): &&(String, String)| {
                is_up(wants)
                    && !is_up(unit)
                    && new.file(unit).is_some()
                    && !self.wants.contains(&(wants.clone(), unit.clone()))
            };
            let more: Vec<String> = new.wants.iter().filter(comes).map(|(_, unit)| unit.clone()).collect();
            if more.is_empty() {
                return started;
            }
            started.extend(more);
        }
    }
}

impl UnitChanges {
    /// A unit is to follow a change of its file.
    fn changed(&mut self, unit: &str, after: &UnitFile, active: &BTreeSet<String>) {
        let suffix = unit.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        match (unit, suffix) {
            // They take a change when systemd reads its files again.
            (_, "slice" | "socket") => {}
            ("-.mount" | "nix.mount", _) => _ = self.reload.insert(unit.into()),
            (_, "mount") => _ = self.restart.insert(unit.into()),
            _ if after.flag("Service", "X-ReloadIfChanged", false) => _ = self.reload.insert(unit.into()),
            _ if !after.flag("Service", "X-RestartIfChanged", true)
                || after.flag("Unit", "RefuseManualStop", false)
                || after.flag("Unit", "X-OnlyManualStart", false) =>
            {
                self.keep.insert(unit.into());
            }
            _ => {
                self.restart.insert(unit.into());
                if suffix == "service" && after.flag("Service", "X-StopIfChanged", true) {
                    self.restart
                        .extend(sockets(unit, after).into_iter().filter(|socket| active.contains(socket)));
                }
            }
        }
    }
}

/// The sockets that start a service: they are stopped with it.
fn sockets(unit: &str, file: &UnitFile) -> Vec<String> {
    let named: Vec<String> = file
        .values("Service", "Sockets")
        .iter()
        .flat_map(|all| all.split_whitespace())
        .map(str::to_owned)
        .collect();
    match unit.strip_suffix(".service") {
        Some(stem) if named.is_empty() => vec![format!("{stem}.socket")],
        _ => named,
    }
}

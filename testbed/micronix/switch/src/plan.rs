//! Which units are stopped, started, restarted and reloaded. Pure: from the active units, and the units' files of the
//! running and the new configuration.

use crate::fstab::MountChange;
use crate::lists::{List, Note};
use crate::unit_file::{Change, UnitFile};
use crate::units::Units;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What systemd says of an active unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitState {
    pub(crate) active: String,
    pub(crate) sub: String,
}

/// Active units by name.
pub(crate) type Active = BTreeMap<String, UnitState>;

/// What is to be done with units.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) stop: BTreeSet<String>,
    pub(crate) start: BTreeSet<String>,
    pub(crate) restart: BTreeSet<String>,
    pub(crate) reload: BTreeSet<String>,
    /// Changed, and left alone all the same.
    pub(crate) skip: BTreeSet<String>,
    /// Started every time, and so not worth a word.
    pub(crate) silent: BTreeSet<String>,
    /// What the lists of an interrupted run must say of all this.
    notes: Vec<Note>,
}

/// Why a unit is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its file has changed.
    Changed,
    /// The activation script asks for it: everything is a restart then.
    Asked,
}

/// What a plan is made from.
pub(crate) struct World<'a> {
    pub(crate) active: &'a Active,
    pub(crate) current: &'a dyn Units,
    pub(crate) new: &'a dyn Units,
    /// Whether targets that are always started are named too.
    pub(crate) show_all: bool,
}

/// The file that describes a unit: its own, or its template's.
fn base_of(unit: &str, has_own: bool) -> String {
    match (has_own, unit.split_once('@'), unit.rsplit_once('.')) {
        (false, Some((template, _)), Some((_, suffix))) => format!("{template}@.{suffix}"),
        _ => unit.to_owned(),
    }
}

impl Plan {
    /// Starts from what an interrupted run left.
    pub(crate) fn resumed() -> Self {
        Self {
            start: List::Start.read(),
            restart: List::Restart.read(),
            reload: List::Reload.read(),
            ..Self::default()
        }
    }

    /// The notes since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    pub(crate) fn want_start(&mut self, unit: &str) {
        self.start.insert(unit.to_owned());
        self.notes.push(Note::Add(List::Start, unit.to_owned()));
    }

    fn want_restart(&mut self, unit: &str) {
        self.restart.insert(unit.to_owned());
        self.notes.push(Note::Add(List::Restart, unit.to_owned()));
    }

    fn want_reload(&mut self, unit: &str) {
        self.reload.insert(unit.to_owned());
        self.notes.push(Note::Add(List::Reload, unit.to_owned()));
    }

    /// A unit that starts anew need not be reloaded.
    pub(crate) fn forget_reload(&mut self, unit: &str) {
        if self.reload.remove(unit) {
            self.notes.push(Note::Drop(List::Reload, unit.to_owned()));
        }
    }

    /// Compares every active unit of the running configuration with the new one's. Units that no configuration
    /// declares, such as transient ones, are not looked at.
    pub(crate) fn compare(&mut self, world: &World<'_>) -> Result<()> {
        for (unit, state) in world.active {
            let base = base_of(unit, world.current.has(unit) || world.new.has(unit));
            if !world.current.has(&base) || !matches!(state.active.as_str(), "active" | "activating") {
                continue;
            }
            if !world.new.runs(&base) {
                if world.current.load(unit, &base)?.flag("Unit", "X-StopOnRemoval", true) {
                    self.stop.insert(unit.clone());
                }
            } else if unit.ends_with(".target") {
                self.compare_target(unit, &world.new.load(unit, &base)?, world.show_all);
            } else {
                let new = world.new.load(unit, &base)?;
                match world.current.load(unit, &base)?.change_to(&new) {
                    Change::Restart => self.modified(world, unit, &base, &new, Cause::Changed),
                    Change::Reload if !self.restart.contains(unit) => self.want_reload(unit),
                    Change::Reload | Change::None => {}
                }
            }
        }
        Ok(())
    }

    /// An active target is started again, so that what is new below it starts.
    fn compare_target(&mut self, unit: &str, new: &UnitFile, show_all: bool) {
        let asleep = matches!(unit, "suspend.target" | "hibernate.target" | "hybrid-sleep.target");
        if !asleep
            && !new.flag("Unit", "RefuseManualStart", false)
            && !new.flag("Unit", "X-OnlyManualStart", false)
        {
            self.want_start(unit);
            if !show_all {
                self.silent.insert(unit.to_owned());
            }
        }
        // For the order between units before and after the target.
        if new.flag("Unit", "X-StopOnReconfiguration", false) {
            self.stop.insert(unit.to_owned());
        }
    }

    /// A unit that must follow a change.
    fn modified(&mut self, world: &World<'_>, unit: &str, base: &str, new: &UnitFile, cause: Cause) {
        let suffix = unit.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        match (unit, suffix) {
            // These cannot be restarted, or take their changes from a daemon-reload.
            ("sysinit.target" | "basic.target" | "multi-user.target" | "graphical.target", _)
            | (_, "unit" | "slice" | "socket") => {}
            ("-.mount" | "nix.mount", _) => self.want_reload(unit),
            (_, "mount") => self.want_restart(unit),
            _ => self.modified_service(world, unit, base, new, cause),
        }
    }

    fn modified_service(&mut self, world: &World<'_>, unit: &str, base: &str, new: &UnitFile, cause: Cause) {
        let stopped = if cause == Cause::Asked { &self.restart } else { &self.stop };
        if new.flag("Service", "X-ReloadIfChanged", false)
            && !self.restart.contains(unit)
            && !stopped.contains(unit)
        {
            self.want_reload(unit);
        } else if !new.flag("Service", "X-RestartIfChanged", true)
            || new.flag("Unit", "RefuseManualStop", false)
            || new.flag("Unit", "X-OnlyManualStart", false)
        {
            self.skip.insert(unit.to_owned());
        } else if !new.flag("Service", "X-StopIfChanged", true) || !unit.ends_with(".service") {
            self.want_restart(unit);
            self.forget_reload(unit);
        } else {
            self.stop_and_start(world, unit, base, new, cause);
        }
    }

    /// Stops a service with its old file and starts it with its new one. One that sockets start is left to them.
    fn stop_and_start(&mut self, world: &World<'_>, unit: &str, base: &str, new: &UnitFile, cause: Cause) {
        let named: Vec<String> = new
            .values("Service", "Sockets")
            .iter()
            .flat_map(|value| value.split_whitespace().map(str::to_owned))
            .collect();
        let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
        let sockets = if named.is_empty() { vec![format!("{stem}.socket")] } else { named };
        let mut by_socket = false;
        for socket in sockets.iter().filter(|socket| world.active.contains_key(*socket)) {
            let remains = world.new.has(socket);
            if cause == Cause::Asked {
                self.restart.insert(socket.clone());
                if remains {
                    self.want_restart(socket);
                }
            } else {
                self.stop.insert(socket.clone());
                if remains {
                    self.want_start(socket);
                }
            }
            by_socket |= remains;
            self.forget_reload(unit);
        }
        if new.flag("Service", "X-NotSocketActivated", false) {
            by_socket = false;
        }
        if cause == Cause::Asked {
            if by_socket {
                self.restart.insert(unit.to_owned());
            } else {
                self.want_restart(unit);
            }
        } else {
            if !by_socket {
                self.want_start(unit);
            }
            self.stop.insert(unit.to_owned());
        }
        self.forget_reload(unit);
    }

    /// What changed mounts ask for; each mount point comes with its unit's name.
    pub(crate) fn mounts(&mut self, changes: Vec<(MountChange, String)>) {
        for (change, unit) in changes {
            match change {
                MountChange::Reload(_) => self.want_reload(&unit),
                MountChange::Restart(_) => self.want_restart(&unit),
                MountChange::Stop(_) => _ = self.stop.insert(unit),
                MountChange::Leave(_) => _ = self.skip.insert(unit),
            }
        }
    }

    /// What the activation script asks for.
    pub(crate) fn asked(&mut self, world: &World<'_>, restart: &[String], reload: &[String]) -> Result<()> {
        for unit in restart {
            if world.active.contains_key(unit) {
                let base = base_of(unit, world.new.has(unit));
                let new = world.new.load(unit, &base)?;
                self.modified(world, unit, &base, &new, Cause::Asked);
            } else {
                self.want_start(unit);
            }
        }
        for unit in reload {
            if world.active.contains_key(unit) && !self.restart.contains(unit) && !self.stop.contains(unit) {
                self.want_reload(unit);
            }
        }
        Ok(())
    }

    /// A unit that should be reloaded and is not active any more is started, if it may be.
    pub(crate) fn start_instead_of_reload(&mut self, unit: &str, new: &UnitFile) {
        if !new.flag("Unit", "RefuseManualStart", false) || new.flag("Unit", "X-OnlyManualStart", false) {
            self.want_start(unit);
        }
        self.forget_reload(unit);
    }

    /// The units that are stopped, without those that go without saying.
    pub(crate) fn stop_shown(&self) -> BTreeSet<String> {
        self.stop.difference(&self.silent).cloned().collect()
    }

    /// The units that are started, without those that go without saying.
    pub(crate) fn start_shown(&self) -> BTreeSet<String> {
        self.start.difference(&self.silent).cloned().collect()
    }
}

#[cfg(test)]
mod tests;

//! What changes on a host from one system to another. Pure: from two systems as they were read.

mod packages;
mod unit_file;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::packages::PackageChange;
use self::packages::packages;
pub use self::unit_file::UnitFile;
pub use self::units::{UnitChanges, Units};
use crate::{Kernel, StorePath};

/// A system, as far as it can be compared with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The system itself.
    pub toplevel: StorePath,
    /// NixOS' own version of it.
    pub version: Option<String>,
    /// All that it needs, itself included, with the bytes of each archive.
    pub closure: BTreeMap<StorePath, u64>,
    /// Its units; `None` where they can't be read.
    pub units: Option<Units>,
    /// What only a boot brings in, by its name in the toplevel: where it leads to, or what is in it.
    pub boot: BTreeMap<String, String>,
}

/// What only a boot brings in: names in a toplevel, and whether what is in them counts instead of where they lead to.
pub const BOOT_PARTS: [(&str, bool); 5] = [
    ("kernel", false),
    ("initrd", false),
    ("kernel-modules", false),
    ("kernel-params", true),
    ("init-interface-version", true),
];

/// What changes on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// NixOS' version before and after, where it changes.
    pub version: Option<(String, String)>,
    /// Packages that come, go or change, by their names.
    pub packages: Vec<PackageChange>,
    /// By how many bytes the closure grows.
    pub bytes: i64,
    /// Which units change; `None` where those of one system are not known.
    pub units: Option<UnitChanges>,
    /// What waits for a reboot: names of [`BOOT_PARTS`].
    pub reboot: Vec<String>,
}

impl Difference {
    /// What changes from one system to another on a host where these units are active; all that its system wants, where
    /// that is not known.
    #[must_use]
    pub fn between(before: &System, after: &System, active: Option<&BTreeSet<String>>) -> Self {
        let total = |system: &System| system.closure.values().copied().fold(0, u64::saturating_add);
        let version = match (&before.version, &after.version) {
            (Some(old), Some(new)) if old != new => Some((old.clone(), new.clone())),
            _ => None,
        };
        Self {
            version,
            packages: packages(before, after),
            bytes: growth(total(before), total(after)),
            units: before
                .units
                .as_ref()
                .zip(after.units.as_ref())
                .map(|(old, new)| old.changes_to(new, active)),
            reboot: reboot(&before.boot, &after.boot),
        }
    }

    /// The same where what was booted is not what runs, as far as both can be told apart: it is that which a reboot replaces.
    #[must_use]
    pub fn since_boot(mut self, before: &System, after: &System, runs: &Kernel, booted: &Kernel) -> Self {
        if runs == booted || runs.0.len() != booted.0.len() {
            return self;
        }
        let parts = before.boot.iter().map(|(name, is)| {
            let at = runs.0.iter().position(|part| part.trim() == is);
            let was = at.and_then(|at| booted.0.get(at));
            (name.clone(), was.map_or(is.as_str(), |was| was.trim()).to_owned())
        });
        self.reboot = reboot(&parts.collect(), &after.boot);
        self
    }

    /// Whether nothing is to be told but that it is another system.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.version.is_none()
            && self.packages.is_empty()
            && self.reboot.is_empty()
            && self.units.as_ref().is_some_and(UnitChanges::is_empty)
    }

    /// Whether both say the same to people: a host's own name makes its closure a few bytes longer.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        *self == Self { bytes: self.bytes, ..other.clone() }
    }
}

/// What waits for a reboot from one boot to another.
fn reboot(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let differs = |name: &&str| match (before.get(*name), after.get(*name)) {
        (Some(old), Some(new)) => old != new,
        // A container has none.
        _ => false,
    };
    BOOT_PARTS.iter().map(|(name, _)| *name).filter(differs).map(str::to_owned).collect()
}

/// Puts together what says the same, in the order in which it comes.
pub fn alike<H>(differences: impl IntoIterator<Item = (H, Difference)>) -> Vec<(Vec<H>, Vec<Difference>)> {
    let mut groups: Vec<(Vec<H>, Vec<Difference>)> = Vec::new();
    for (host, difference) in differences {
        match groups.iter_mut().find(|(_, known)| known.first().is_some_and(|one| one.says_as(&difference))) {
            Some((hosts, known)) => {
                hosts.push(host);
                known.push(difference);
            }
            None => groups.push((vec![host], vec![difference])),
        }
    }
    groups
}

/// From one size to another, in bytes.
fn growth(before: u64, after: u64) -> i64 {
    let size = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    size(after).saturating_sub(size(before))
}

#[cfg(test)]
mod tests;

//! Which fault strikes at which effect: the list is generated, so that no effect is forgotten.

use bosco_activation::Effect;
use serde::Serialize;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// What the effect needs is not there: the host is prepared so that it fails.
    Error,
    /// SIGKILL of the helper that carries the attempt out.
    Kill,
    /// SIGKILL of it and of the one that looks on.
    KillBoth,
    /// The power fails, and what was not synced is lost.
    PowerCut,
    /// The network cable is out for a while.
    LinkCut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Error, Self::Kill, Self::KillBoth, Self::PowerCut, Self::LinkCut];

    /// Its name, in tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Kill => "kill",
            Self::KillBoth => "kill-both",
            Self::PowerCut => "power-cut",
            Self::LinkCut => "link-cut",
        }
    }
}

/// One fault at one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// What is struck.
    pub effect: Effect,
    /// By what.
    pub fault: Fault,
}

/// The whole matrix.
#[must_use]
pub fn cells() -> Vec<Cell> {
    Effect::ALL
        .into_iter()
        .flat_map(|effect| Fault::ALL.into_iter().map(move |fault| Cell { effect, fault }))
        .collect()
}

/// Whether an effect occurs only where a candidate is booted before it is committed, on a host with bosco's module.
pub(crate) fn takes_a_boot(effect: Effect) -> bool {
    matches!(effect, Effect::PrepareEntry | Effect::Reboot)
}

/// Whether an effect occurs only on a host with bosco's module: those boot candidates, and have a profile beside the system.
pub(crate) fn takes_the_module(effect: Effect) -> bool {
    takes_a_boot(effect) || effect == Effect::Profiles
}

/// How an effect is made to fail, in words.
#[must_use]
pub fn way(effect: Effect) -> &'static str {
    match effect {
        Effect::Check => "`systemctl list-units` fails",
        Effect::InstallSecrets => "a folder is in the way of the second of two keys",
        Effect::Root => "a folder is in the way of the root's link",
        Effect::Sync => "a file of the candidate has other contents than it was made with",
        Effect::Arm => "`systemd-run` fails for the dead man",
        Effect::Switch => "the candidate's activation script fails",
        Effect::Profiles => "the profile can't be activated",
        Effect::Probe => "a unit of the candidate fails",
        Effect::PrepareEntry => "`nix-env` fails for the candidate's profile",
        Effect::Reboot => "`systemctl reboot` fails",
        Effect::SetProfile => "`nix-env --set` fails",
        Effect::InstallBoot => "the boot loader's installer can't write its configuration",
        Effect::Revert => "a folder is in the way of a list of `switch-to-configuration`",
        Effect::Disarm => "a folder has taken the place of the candidate's root",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_meets_every_fault_once() {
        let mut all = cells();
        assert_eq!(all.len(), Effect::ALL.len() * Fault::ALL.len());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Effect::ALL.len() * Fault::ALL.len());
    }
}

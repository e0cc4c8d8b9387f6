//! The things that are done on a host, one at a time.

use serde::{Deserialize, Serialize};

/// One thing that is done on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Looks whether the system can be taken, and keeps a picture of what is there.
    Check,
    /// Puts new secrets in their places, where nothing else changes and no unit has to hear of it.
    InstallSecrets,
    /// Keeps the candidate, what runs, what was booted and the helper from garbage collection.
    Root,
    /// Brings the store to the disk, and reads the new paths again.
    Sync,
    /// Arms the dead man.
    Arm,
    /// `switch-to-configuration test` of the candidate.
    Switch,
    /// Sets the profiles that the host has beside its system, and activates them, in their order.
    Profiles,
    /// Looks at units and health checks.
    Probe,
    /// Gives the candidate an entry of its own in the boot menu, and chooses it for one boot.
    PrepareEntry,
    /// Reboots.
    Reboot,
    /// Makes the profile name the candidate.
    SetProfile,
    /// `switch-to-configuration boot` of the candidate, and looks whether it will boot now.
    InstallBoot,
    /// Brings back what ran and what booted before.
    Revert,
    /// Takes away the dead man, and the roots that nobody needs any more.
    Disarm,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Check,
        Self::InstallSecrets,
        Self::Root,
        Self::Sync,
        Self::Arm,
        Self::Switch,
        Self::Profiles,
        Self::Probe,
        Self::PrepareEntry,
        Self::Reboot,
        Self::SetProfile,
        Self::InstallBoot,
        Self::Revert,
        Self::Disarm,
    ];

    /// Its name, in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::InstallSecrets => "install-secrets",
            Self::Root => "root",
            Self::Sync => "sync",
            Self::Arm => "arm",
            Self::Switch => "switch",
            Self::Profiles => "profiles",
            Self::Probe => "probe",
            Self::PrepareEntry => "prepare-entry",
            Self::Reboot => "reboot",
            Self::SetProfile => "set-profile",
            Self::InstallBoot => "install-boot",
            Self::Revert => "revert",
            Self::Disarm => "disarm",
        }
    }

    /// What the host does in it.
    #[must_use]
    pub fn doing(self) -> &'static str {
        match self {
            Self::Check => "checking",
            Self::InstallSecrets => "installing its secrets",
            Self::Root => "rooting the new system",
            Self::Sync => "verifying the new system",
            Self::Arm => "arming the dead man",
            Self::Switch => "switching",
            Self::Profiles => "activating its profiles",
            Self::Probe => "proving the new system",
            Self::PrepareEntry => "preparing its boot entry",
            Self::Reboot => "rebooting",
            Self::SetProfile => "setting the profile",
            Self::InstallBoot => "installing the boot loader",
            Self::Revert => "going back",
            Self::Disarm => "disarming the dead man",
        }
    }

    /// Whether it is the candidate's own programs that are at work in it.
    pub(crate) fn is_the_candidates(self) -> bool {
        matches!(self, Self::Switch | Self::Profiles)
    }
}

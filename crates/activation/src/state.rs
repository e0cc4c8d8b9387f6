//! Where an attempt can be, and what can happen to it.

use std::collections::BTreeSet;

use bosco_model::StorePath;
use serde::{Deserialize, Serialize};

use crate::{Cause, Complaint, Ending, Refused};

/// Where an attempt is. Each state but the last one has one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing has been changed.
    Checking,
    /// The same.
    Rooting,
    /// The same.
    Syncing,
    /// The same; the dead man may be armed.
    Arming,
    /// New secrets are on their way into their places; what runs and what boots stays as it is.
    InstallingSecrets,
    /// The candidate is on its way to run.
    Switching,
    /// The profiles beside the system are on their way to be the candidate's.
    ActivatingProfiles,
    /// The candidate runs, and has to prove itself.
    Proving {
        /// A fresh connection has come.
        connected: bool,
        /// Units and health checks are well.
        healthy: bool,
    },
    /// The candidate gets a boot of its own.
    PreparingEntry,
    /// A reboot has been asked for.
    Rebooting {
        /// What has to come up.
        into: Into,
    },
    /// The default changes.
    SettingProfile,
    /// The default changes.
    InstallingBoot,
    /// What was before comes back.
    Reverting,
    /// What was before runs again, and is looked at in the same way.
    Retesting {
        /// A fresh connection has come.
        connected: bool,
        /// What did not hold, once that is known.
        complaints: Option<Vec<Complaint>>,
    },
    /// It is decided; what was only for the attempt is taken away.
    Closing {
        /// What is decided.
        ending: Ending,
    },
    /// It is over.
    Ended {
        /// How.
        ending: Ending,
    },
}

/// What a reboot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Into {
    /// The candidate, once; it is proven then.
    Candidate,
    /// The candidate, which is the default already.
    Committed {
        /// Whether it had passed its probes before.
        proven: bool,
    },
    /// What ran before, as it could not be brought back otherwise.
    Old,
}

/// What the host was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// The system that ran: a specialisation's own, where one ran.
    pub running: StorePath,
    /// Its name, where it was a specialisation.
    #[serde(default)]
    pub specialisation: Option<String>,
    /// The system of the profile.
    #[serde(default)]
    pub profile: Option<StorePath>,
    /// The profile's generation.
    #[serde(default)]
    pub generation: Option<u32>,
    /// Units that had failed already.
    #[serde(default)]
    pub failed: BTreeSet<String>,
    /// What the profiles beside the system were, in the order in which the request has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Was>,
}

/// What a profile beside the system was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// What it named, where it was there.
    pub path: Option<StorePath>,
    /// Its generation.
    pub generation: Option<u32>,
    /// The newest generation that it had.
    pub newest: Option<u32>,
}

/// What only a boot can bring in of the candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// Nothing.
    #[default]
    Nothing,
    /// Kernel, initrd or modules: the rest can be switched to.
    Kernel,
    /// Another init: nothing can be switched to.
    Init,
}

/// What a look at the host has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is there.
    pub before: Before,
    /// What only a boot can bring in.
    pub needs: Needs,
    /// Whether the candidate goes on with its attempt by itself once it has been booted, and the boot loader can be told
    /// to boot it once.
    pub proves_boot: bool,
    /// Whether the candidate wants the host to reboot where that is needed.
    pub wants_reboot: bool,
    /// Whether it is what runs and what boots already, and its secrets are all that changes, of which no unit has to hear.
    pub only_secrets: bool,
}

/// What came of an effect that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing to tell.
    Nothing,
    /// Of [`Effect::Check`](crate::Effect::Check).
    Checked(Box<Checked>),
    /// Of [`Effect::Probe`](crate::Effect::Probe): what does not hold.
    Probed(Vec<Complaint>),
    /// Of [`Effect::Revert`](crate::Effect::Revert).
    Back {
        /// Whether the old system's own activation script, or that of an old profile, has failed.
        script_failed: bool,
    },
}

/// Something that happens to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The effect of its state has succeeded.
    Done(Found),
    /// The effect of its state says that the host can't or must not take the system, having changed nothing.
    Refused(Refused),
    /// The effect of its state has failed.
    Failed(Cause),
    /// A fresh connection has come, made after the switch had returned.
    Connected {
        /// Whether it is some time since units and health checks were looked at.
        stale: bool,
    },
    /// None has come in time.
    Silence,
    /// The activation has taken longer than it may.
    Overdue,
    /// Who carried it out has gone; the machine has not.
    Resumed,
    /// The machine has booted since, and this runs.
    Booted {
        /// The toplevel that it booted.
        running: Option<StorePath>,
    },
}

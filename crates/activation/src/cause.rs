//! Why an activation ended as it did: what was refused, what went wrong, and whose fault it is.

use std::collections::BTreeSet;

use bosco_model::{Number, StorePath};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Effect;

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case")]
pub enum Ending {
    /// The host is where the goal wants it.
    Committed {
        /// Whether all of it, or some of it, comes with the next boot only.
        reboot: bool,
        /// Whether the system has passed its probes. One that was only made the next boot's has not.
        proven: bool,
    },
    /// The candidate was tried, did not hold, and is gone; what ran before runs again. It is to blame.
    Reverted {
        /// What it did wrong.
        cause: Cause,
    },
    /// The candidate was tried or about to be, and is gone; nothing says that it is to blame.
    Inconclusive {
        /// What went wrong.
        cause: Cause,
    },
    /// Nothing was changed.
    Refused {
        /// Why.
        why: Refused,
    },
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "refused", rename_all = "kebab-case")]
pub enum Refused {
    /// The toplevel is not in the store, or is no NixOS system.
    #[error("{toplevel} is no NixOS system there")]
    NoSystem {
        /// What was asked for.
        toplevel: StorePath,
    },
    /// A host that builds itself could not.
    #[error("it could not be built: {why}")]
    Unbuilt {
        /// Nix's own words.
        why: String,
    },
    /// The generation to go back to is gone, or is another system's by now.
    #[error("generation {number} is not there any more, or is another system's")]
    OtherGeneration {
        /// Its number.
        number: u32,
    },
    /// This very system has failed there.
    #[error("it is in quarantine: {why}")]
    Quarantined {
        /// What it did, in words.
        why: String,
    },
    /// Something newer was committed there. Of two that deploy at once, the later one wins.
    #[error("it is number {number}, and the host is at {highest} already")]
    Older {
        /// Its number.
        number: Number,
        /// The highest that was committed.
        highest: Number,
    },
    /// The host was brought to another system by hand, which the release does not contain.
    #[error("the host is held at {toplevel}, which was pushed as number {number}")]
    Held {
        /// The number of the push.
        number: Number,
        /// What was pushed.
        toplevel: StorePath,
    },
    /// A file system has no room for what an activation writes.
    #[error("no room there: {place} has {free} free, an activation needs {needed}")]
    NoRoom {
        /// Where.
        place: String,
        /// How much it needs: `40 MiB`, or a number of files.
        needed: String,
        /// How much there is.
        free: String,
    },
    /// Paths of the system are not what they were when they were made.
    #[error("damaged there: {}", some(paths))]
    Damaged {
        /// Which, at most some of them.
        paths: Vec<String>,
    },
    /// Another program holds the lock of `switch-to-configuration`.
    #[error("another program is switching that host: the lock of switch-to-configuration is held")]
    Locked,
    /// The system's own pre-switch checks said no.
    #[error("the system's pre-switch checks said no: {said}")]
    Inhibited {
        /// Their last words.
        said: String,
    },
    /// It can't be tried on the running system.
    #[error("it has another init, which takes a reboot")]
    NeedsReboot,
    /// Something failed before anything was changed.
    #[error("it failed while {}: {why}", doing.doing())]
    Failed {
        /// At what.
        doing: Effect,
        /// What was said.
        why: String,
    },
}

/// The first few of some things.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}

/// What went wrong after the host had begun to change.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// The system's `activate` script failed.
    #[error("its activation script failed")]
    ActivationScript,
    /// `switch-to-configuration test` failed.
    #[error("`switch-to-configuration test` ended with exit code {code}")]
    Switch {
        /// Its exit code.
        code: i32,
    },
    /// A profile beside the system could not be activated, or brought back.
    #[error("{profile} failed: {why}")]
    Profile {
        /// Which one.
        profile: String,
        /// What was said.
        why: String,
    },
    /// Something that has to hold did not.
    #[error("{}", complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unhealthy {
        /// What did not hold.
        complaints: Vec<Complaint>,
    },
    /// Nobody could reach the host any more.
    #[error("the host could not be reached any more")]
    NoConnection,
    /// It took longer than an activation may.
    #[error("it did not end in time while {}", doing.doing())]
    Overdue {
        /// At what.
        doing: Effect,
    },
    /// Something that is the host's own, rather than the candidate's, failed.
    #[error("it failed while {}: {why}", doing.doing())]
    Failed {
        /// At what.
        doing: Effect,
        /// What was said.
        why: String,
    },
    /// The power failed, or somebody ended it.
    #[error("it was interrupted while {}", doing.doing())]
    Interrupted {
        /// At what.
        doing: Effect,
    },
    /// The candidate was booted once, and something else came up.
    #[error("it did not come up when it was booted")]
    DidNotBoot,
}

/// Something that has to hold and did not.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "complaint", rename_all = "kebab-case")]
pub enum Complaint {
    /// A unit has failed that had not before.
    #[error("{unit} has failed")]
    Unit {
        /// Its name.
        unit: String,
        /// The last lines of its log.
        #[serde(default)]
        log: Vec<String>,
    },
    /// A health check did not hold.
    #[error("health check `{name}` failed: {why}")]
    HealthCheck {
        /// Its name.
        name: String,
        /// What was wrong.
        why: String,
    },
}

impl Complaint {
    /// What is complained of, whatever is said of it.
    fn subject(&self) -> (bool, &str) {
        match self {
            Self::Unit { unit, .. } => (true, unit),
            Self::HealthCheck { name, .. } => (false, name),
        }
    }
}

/// What was found on the old system, once it ran again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Retest {
    /// Whether the host could be reached.
    pub(crate) connected: bool,
    /// What did not hold.
    pub(crate) complaints: Vec<Complaint>,
}

impl Cause {
    /// Whether the candidate is to blame, by what was found on the old system: what fails there as well is not its doing.
    pub(crate) fn blames_candidate(&self, retest: &Retest) -> bool {
        match self {
            Self::ActivationScript | Self::Switch { .. } | Self::Profile { .. } | Self::DidNotBoot => true,
            Self::Overdue { doing } => doing.is_the_candidates(),
            Self::NoConnection => retest.connected,
            Self::Unhealthy { complaints } => {
                let still: BTreeSet<_> = retest.complaints.iter().map(Complaint::subject).collect();
                complaints.iter().any(|complaint| !still.contains(&complaint.subject()))
            }
            Self::Failed { .. } | Self::Interrupted { .. } => false,
        }
    }

    /// Whether what is found on the old system says anything about it.
    pub(crate) fn wants_retest(&self) -> bool {
        matches!(self, Self::NoConnection | Self::Unhealthy { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(unit: &str) -> Complaint {
        Complaint::Unit { unit: unit.into(), log: vec!["some words".into()] }
    }

    #[test]
    fn what_fails_on_the_old_system_too_is_not_the_candidates_doing() {
        let check = || Complaint::HealthCheck { name: "db".into(), why: "refused".into() };
        let unhealthy = |complaints| Cause::Unhealthy { complaints };
        let on_old = |complaints| Retest { connected: true, complaints };
        let again = Complaint::HealthCheck { name: "db".into(), why: "timed out".into() };
        assert!(unhealthy(vec![check()]).blames_candidate(&on_old(vec![])));
        assert!(!unhealthy(vec![check()]).blames_candidate(&on_old(vec![again.clone()])));
        assert!(unhealthy(vec![check(), unit("db")]).blames_candidate(&on_old(vec![again])));
        assert!(Cause::NoConnection.blames_candidate(&on_old(vec![])));
        assert!(!Cause::NoConnection.blames_candidate(&Retest::default()), "the line is down");
        assert!(!Cause::Interrupted { doing: Effect::Switch }.blames_candidate(&on_old(vec![])));
        assert!(Cause::Overdue { doing: Effect::Switch }.blames_candidate(&on_old(vec![])));
        assert!(!Cause::Overdue { doing: Effect::Sync }.blames_candidate(&on_old(vec![])));
    }

    #[test]
    fn causes_are_told_in_words() {
        let failed = Cause::Failed { doing: Effect::SetProfile, why: "disk full".into() };
        assert_eq!(failed.to_string(), "it failed while setting the profile: disk full");
        let cause = Cause::Unhealthy { complaints: vec![unit("a.service"), unit("b.service")] };
        assert_eq!(cause.to_string(), "a.service has failed; b.service has failed");
        let damaged =
            |paths: &[&str]| Refused::Damaged { paths: paths.iter().map(ToString::to_string).collect() };
        assert_eq!(damaged(&["a", "b", "c", "d"]).to_string(), "damaged there: a, b, c and 1 more");
    }
}

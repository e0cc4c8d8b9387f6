//! What came of a host, in words and as an exit code. Pure.

use bosco_activation::{Ending, Fault};
use bosco_model::{Goal, StorePath};
use serde::Serialize;

use crate::error::Exit;
use crate::event::Stage;

/// What came of a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It was where the goal wants it, and was left alone.
    UpToDate { goal: Goal },
    /// Its toplevel is in the store here.
    Built { toplevel: StorePath },
    /// It has its toplevel, and does not run it.
    Pushed,
    /// The goal was reached. `reboot`: it runs only after the next boot.
    Activated { goal: Goal, reboot: bool, log: String },
    /// Nothing could be asked of it; it may be switched off.
    Offline { reason: String, hint: Option<String> },
    /// It is deployed on itself only.
    LocalOnly,
    /// It was ready, and left alone because another host was not.
    HeldBack,
    /// Nothing may be done there.
    Refused { reason: String, hint: String },
    /// Something went wrong.
    Failed { stage: Stage, reason: String, hint: Option<String>, log: String },
    /// The operator stopped it.
    Interrupted { stage: Stage },
}

impl Outcome {
    pub(crate) fn failed(stage: Stage, reason: impl Into<String>, hint: Option<String>) -> Self {
        Self::Failed { stage, reason: reason.into(), hint, log: String::new() }
    }

    /// The words for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::UpToDate { goal: Goal::Push } => "there already".into(),
            Self::UpToDate { goal: Goal::Test } => "runs it already".into(),
            Self::UpToDate { goal: Goal::Boot } => "boots it already".into(),
            Self::UpToDate { .. } => "up to date".into(),
            Self::Built { toplevel } => format!("built {toplevel}"),
            Self::Pushed => "pushed".into(),
            Self::Activated { goal: Goal::DryActivate, .. } => "dry-activated, nothing was changed".into(),
            Self::Activated { goal: Goal::Test, .. } => "activated until the next boot".into(),
            Self::Activated { goal: Goal::Boot, .. } => "will run it from the next boot on".into(),
            Self::Activated { reboot: true, .. } => "committed; reboot needed".into(),
            Self::Activated { .. } => "committed".into(),
            Self::Offline { reason, .. } => format!("skipped: {reason}"),
            Self::LocalOnly => "skipped: it is deployed on itself only".into(),
            Self::HeldBack => "held back".into(),
            Self::Refused { reason, .. } => format!("refused: {reason}"),
            Self::Failed { reason, .. } => reason.clone(),
            Self::Interrupted { stage: Stage::Activate } => {
                "interrupted; the activation goes on there".into()
            }
            Self::Interrupted { stage } => {
                format!("interrupted while {}, nothing was activated", stage.doing())
            }
        }
    }

    /// The few words that it shares with the outcomes of its kind.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Built { .. } => "built".into(),
            Self::Offline { .. } => "skipped, could not be reached".into(),
            Self::Refused { .. } => "refused".into(),
            Self::Failed { stage, .. } => format!("failed while {}", stage.doing()),
            other => other.words(),
        }
    }

    /// Why it came to this, without what was done about it.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Offline { reason, .. } => reason.clone(),
            other => other.words(),
        }
    }

    /// What to do next, if anything.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Offline { hint, .. } | Self::Failed { hint, .. } => hint.as_deref(),
            Self::Refused { hint, .. } => Some(hint),
            Self::Interrupted { stage: Stage::Activate } => Some("`bosco status` says how it ended"),
            _ => None,
        }
    }

    /// Whether the operator has to be told more than its kind.
    pub(crate) fn wants_telling(&self) -> bool {
        self.log().is_some() || !matches!(self.exit(), Exit::Done) && !matches!(self, Self::HeldBack)
    }

    /// What programs said that the operator should see.
    pub(crate) fn log(&self) -> Option<&str> {
        match self {
            Self::Failed { log, .. } | Self::Activated { goal: Goal::DryActivate, log, .. }
                if !log.is_empty() =>
            {
                Some(log)
            }
            _ => None,
        }
    }

    /// Whether it is not known what it should run, or that could not be built.
    pub(crate) fn is_unbuilt(&self) -> bool {
        use Outcome::{Failed, Interrupted};
        matches!(self, Failed { stage, .. } | Interrupted { stage } if matches!(stage, Stage::Evaluate | Stage::Build))
    }

    /// Whether it is where it was to be without being delivered to, or never was to be delivered to from here.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::UpToDate { .. }
            | Self::LocalOnly
            | Self::Built { .. }
            | Self::Pushed
            | Self::Activated { .. } => true,
            Self::Offline { .. }
            | Self::HeldBack
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Interrupted { .. } => false,
        }
    }

    /// The exit code that it asks for.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::UpToDate { .. }
            | Self::Built { .. }
            | Self::Pushed
            | Self::Activated { .. }
            | Self::LocalOnly => Exit::Done,
            // What held it back has a code of its own.
            Self::Offline { .. } | Self::HeldBack => Exit::Unreachable,
            Self::Failed { stage: Stage::Evaluate | Stage::Build, .. } => Exit::NotBuilt,
            Self::Refused { .. } | Self::Failed { .. } => Exit::NotDeployed,
            Self::Interrupted { .. } => Exit::Interrupted,
        }
    }

    /// What an activation that ended so came to.
    pub(crate) fn of(goal: Goal, ending: Ending, log: String) -> Self {
        let failed = |fault: &Fault, reason: String, log| Self::Failed {
            stage: Stage::Activate,
            reason,
            hint: Some(advice(fault)),
            log,
        };
        match ending {
            Ending::Reached { reboot } => Self::Activated { goal, reboot, log },
            Ending::NotCommitted { fault } => {
                failed(&fault, format!("not committed: {fault}; what it boots is unchanged"), log)
            }
            Ending::BootUncertain { fault } => {
                failed(&fault, format!("not committed: {fault}; what it boots next is not sure"), log)
            }
        }
    }
}

fn advice(fault: &Fault) -> String {
    match fault {
        Fault::Refused => "its reason is above; nothing was changed there".into(),
        Fault::ActivationScript | Fault::UnitsFailed => {
            "what failed is above; mend it and apply again, or reboot the host to go back".into()
        }
        Fault::Step { .. } => "its output is above, and on the host in /run/bosco/activation.log".into(),
        Fault::Interrupted { .. } => {
            "somebody or the time limit ended it; `bosco status` says where the host stands".into()
        }
    }
}

/// The exit code of a command whose hosts came to this: the worst of them. That some are deployed on themselves only is
/// well, unless nothing else was asked for.
pub(crate) fn exit<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Exit {
    exit_of(outcomes.into_iter().map(|outcome| (outcome.exit(), *outcome == Outcome::LocalOnly)))
}

/// The same, of each host's own code and whether it is one that is deployed on itself only.
pub(crate) fn exit_of(hosts: impl IntoIterator<Item = (Exit, bool)>) -> Exit {
    let all = |(worst, passed_over): (Exit, bool), (exit, itself_only)| {
        (worst.max(exit), passed_over && itself_only)
    };
    let mut hosts = hosts.into_iter();
    match hosts.next().map(|first| hosts.fold(first, all)) {
        None => Exit::Done,
        Some((worst, true)) => worst.max(Exit::Unreachable),
        Some((worst, false)) => worst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP_TO_DATE: Outcome = Outcome::UpToDate { goal: Goal::Switch };

    #[test]
    fn the_worst_outcome_makes_the_exit_code() {
        let offline = Outcome::Offline { reason: String::new(), hint: None };
        let failed = Outcome::failed(Stage::Copy, "", None);
        let unbuilt = Outcome::failed(Stage::Build, "", None);
        let interrupted = Outcome::Interrupted { stage: Stage::Wait };
        for (outcomes, code) in [
            (&[][..], 0),
            (&[UP_TO_DATE, Outcome::LocalOnly], 0),
            (&[Outcome::LocalOnly], 5),
            (&[UP_TO_DATE, offline.clone()], 5),
            (&[offline, failed.clone()], 4),
            (&[failed, unbuilt.clone(), Outcome::HeldBack], 3),
            (&[unbuilt, interrupted], 130),
        ] {
            assert_eq!(exit(outcomes).code(), code, "{outcomes:?}");
        }
    }

    #[test]
    fn a_deploy_that_was_not_committed_never_exits_0() {
        for fault in [Fault::Refused, Fault::ActivationScript, Fault::UnitsFailed] {
            for ending in [
                Ending::NotCommitted { fault: fault.clone() },
                Ending::BootUncertain { fault: fault.clone() },
            ] {
                let outcome = Outcome::of(Goal::Switch, ending, String::new());
                assert_eq!(outcome.exit(), Exit::NotDeployed, "{outcome:?}");
            }
        }
    }
}

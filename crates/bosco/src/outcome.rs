//! What came of a host, in words and as an exit code. Pure.

use std::collections::HashMap;

use bosco_activation::{Cause, Complaint, Ending, Refused, Report};
use bosco_model::{Goal, HostName, StorePath};
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
    /// The goal was reached. `reboot`: some of it comes with the next boot only; `proven`: it has passed its probes.
    Activated { goal: Goal, reboot: bool, proven: bool, log: String },
    /// It runs an older generation again, and boots it.
    WentBack { generation: u32, reboot: bool },
    /// It has booted anew, with what it boots by default.
    Rebooted,
    /// It runs all that it boots.
    NoRebootNeeded,
    /// The system did not hold; what ran before runs again. It is not tried again by itself.
    Reverted { reason: String, hint: String, report: Box<Report>, log: String },
    /// The activation did not come to its end, and nothing says that the system is to blame.
    Inconclusive { reason: String, hint: String, report: Box<Report>, log: String },
    /// Nothing could be asked of it; it may be switched off.
    Offline { reason: String, hint: Option<String> },
    /// It is deployed on itself only.
    LocalOnly,
    /// It was ready, and left alone because another host was not.
    HeldBack,
    /// It was left alone: a host that goes first did not get there.
    Waits { host: HostName, how: String },
    /// Nothing may be done there.
    Refused { reason: String, hint: String },
    /// The operator was asked, and said no.
    Declined,
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
            Self::Activated { goal: Goal::Keys, .. } => "its secrets are committed".into(),
            Self::Activated { goal: Goal::Test, .. } => "activated until the next boot".into(),
            Self::Activated { goal: Goal::Boot, .. } => "will run it from the next boot on".into(),
            Self::Activated { reboot: true, proven: true, .. } => "committed; reboot needed".into(),
            Self::Activated { reboot: true, .. } => {
                "committed, unproven until it has booted; reboot needed".into()
            }
            Self::Activated { .. } => "committed".into(),
            Self::WentBack { generation, reboot: false } => {
                format!("committed generation {generation} again")
            }
            Self::WentBack { generation, reboot: true } => {
                format!("committed generation {generation} again; reboot needed")
            }
            Self::Rebooted => "rebooted".into(),
            Self::NoRebootNeeded => "no reboot needed".into(),
            Self::Offline { reason, .. } => format!("skipped: {reason}"),
            Self::LocalOnly => "skipped: it is deployed on itself only".into(),
            Self::HeldBack => "held back".into(),
            Self::Declined => "not deployed, as you said no; nothing was changed".into(),
            Self::Waits { host, how } => format!("not deployed: waits for {host}, which {how}"),
            Self::Refused { reason, .. } => format!("refused: {reason}"),
            Self::Reverted { reason, .. } => format!("reverted: {reason}"),
            Self::Inconclusive { reason, .. } => format!("inconclusive: {reason}"),
            Self::Failed { reason, .. } => reason.clone(),
            Self::Interrupted { stage: Stage::Activate } => {
                "interrupted; the host goes back by itself, unless it was proven already".into()
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
            Self::Waits { .. } => "not deployed".into(),
            Self::Reverted { .. } => "reverted".into(),
            Self::Inconclusive { .. } => "inconclusive".into(),
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
            Self::Refused { hint, .. } | Self::Reverted { hint, .. } | Self::Inconclusive { hint, .. } => {
                Some(hint)
            }
            Self::WentBack { .. } => {
                Some("the fleet still says another system, which the next apply brings: mend it first")
            }
            Self::Interrupted { stage: Stage::Activate } => Some("`bosco status` says how it ended"),
            _ => None,
        }
    }

    /// Whether the operator has to be told more than its kind.
    pub(crate) fn wants_telling(&self) -> bool {
        self.log().is_some()
            || !matches!(self.exit(), Exit::Done) && !matches!(self, Self::HeldBack | Self::Declined)
    }

    /// The same, where it was refused for what is damaged there, and that could not be mended from here either.
    pub(crate) fn unmended(self, why: Self) -> Self {
        match (self, why) {
            (_, stopped @ Self::Interrupted { .. }) => stopped,
            (Self::Refused { reason, hint }, why) => {
                let reason = format!("{reason}; it can't be mended from here: {}", why.reason());
                Self::Refused { reason, hint }
            }
            (other, _) => other,
        }
    }

    /// What programs said that the operator should see.
    pub(crate) fn log(&self) -> Option<&str> {
        match self {
            Self::Failed { log, .. }
            | Self::Reverted { log, .. }
            | Self::Inconclusive { log, .. }
            | Self::Activated { goal: Goal::DryActivate, log, .. }
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
            | Self::WentBack { .. }
            | Self::Rebooted
            | Self::NoRebootNeeded
            | Self::Activated { .. } => true,
            Self::Offline { .. }
            | Self::HeldBack
            | Self::Declined
            | Self::Waits { .. }
            | Self::Refused { .. }
            | Self::Reverted { .. }
            | Self::Inconclusive { .. }
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
            | Self::WentBack { .. }
            | Self::Rebooted
            | Self::NoRebootNeeded
            | Self::Activated { .. }
            | Self::LocalOnly => Exit::Done,
            // What held it back has a code of its own.
            Self::Offline { .. } | Self::HeldBack | Self::Waits { .. } => Exit::Unreachable,
            Self::Failed { stage: Stage::Evaluate | Stage::Build, .. } => Exit::NotBuilt,
            Self::Refused { .. }
            | Self::Declined
            | Self::Reverted { .. }
            | Self::Inconclusive { .. }
            | Self::Failed { .. } => Exit::NotDeployed,
            Self::Interrupted { .. } => Exit::Interrupted,
        }
    }

    /// What an activation came to.
    pub(crate) fn of(goal: Goal, report: &Report, log: String) -> Self {
        let boxed = || Box::new(report.clone());
        match &report.ending {
            Ending::Committed { reboot, proven } => {
                Self::Activated { goal, reboot: *reboot, proven: *proven, log }
            }
            Ending::Reverted { cause } => Self::Reverted {
                reason: format!("{cause}; {}", runs(report)),
                hint: format!(
                    "mend it and apply again, or try the same once more with `--again`. Data that its services have migrated is not migrated back. Its log is {} there",
                    report.log
                ),
                log: shown(cause, log),
                report: boxed(),
            },
            Ending::Inconclusive { cause } => Self::Inconclusive {
                reason: format!("{cause}; {}", runs(report)),
                hint: format!("{}. Its log is {} there", next(cause), report.log),
                log: shown(cause, log),
                report: boxed(),
            },
            Ending::Refused { why } => Self::Refused {
                reason: why.to_string(),
                // What was refused at once has none.
                hint: match why {
                    Refused::Quarantined { .. } => remedy(why).to_owned(),
                    _ => format!("{}. Its log is {} there", remedy(why), report.log),
                },
            },
        }
    }
}

/// What runs on a host after its activation was taken back.
fn runs(report: &Report) -> String {
    let stuck =
        report.stuck.as_ref().map(|why| format!(", but not all came back: {why}")).unwrap_or_default();
    match (&report.running, report.generation) {
        (_, Some(generation)) => format!("it runs generation {generation} again{stuck}"),
        (Some(running), None) => format!("it runs {} again{stuck}", running.short()),
        (None, None) => format!("what it runs is not known{stuck}"),
    }
}

/// Of the log, what tells of the cause: a failed unit's own last lines, where there are some.
fn shown(cause: &Cause, log: String) -> String {
    let Cause::Unhealthy { complaints } = cause else { return log };
    let lines = |complaint: &Complaint| match complaint {
        Complaint::Unit { unit, log } => {
            log.iter().map(|line| format!("{unit}: {line}\n")).collect::<String>()
        }
        Complaint::HealthCheck { .. } => String::new(),
    };
    let units: String = complaints.iter().map(lines).collect();
    if units.is_empty() { log } else { units }
}

fn next(cause: &Cause) -> &'static str {
    match cause {
        Cause::NoConnection => "it could not be reached from here before and after the change; apply again",
        Cause::Unhealthy { .. } => "the same fails on the old system; mend that first",
        Cause::Interrupted { .. } => "apply again",
        _ => "mend the host and apply again",
    }
}

fn remedy(why: &Refused) -> &'static str {
    match why {
        Refused::Quarantined { .. } => "deploy a mended one, or the same with `--again`",
        Refused::NoRoom { .. } => {
            "`nix-collect-garbage --delete-older-than 30d` there frees what old generations need"
        }
        Refused::Damaged { .. } => {
            "`nix-store --verify --check-contents --repair` there fetches them again, where its caches have them"
        }
        Refused::Locked => "apply again when that has ended",
        Refused::Inhibited { .. } => "nothing was changed; see to what they say",
        Refused::NoSystem { .. } | Refused::OtherGeneration { .. } => {
            "`bosco generations` lists what is there"
        }
        Refused::Older { .. } => {
            "somebody else has deployed to it meanwhile; apply again if yours is the one that should run"
        }
        Refused::Held { .. } => "it takes a release that contains what was pushed to it",
        Refused::NeedsReboot => "`--goal boot` makes it the next boot's, `--reboot` boots it",
        Refused::Unbuilt { .. } => "nothing was changed; mend its directory and release again",
        Refused::Failed { .. } => "nothing was changed; mend the host and apply again",
    }
}

/// Those that have the same to say together, in the order of the first of each: it is told once, with all their names.
pub(crate) fn alike<'a>(
    outcomes: impl IntoIterator<Item = (&'a HostName, &'a Outcome)>,
) -> Vec<(Vec<&'a HostName>, &'a Outcome)> {
    let mut groups: Vec<(Vec<&HostName>, &Outcome)> = Vec::new();
    let mut known = HashMap::new();
    for (host, outcome) in outcomes {
        let group = *known.entry((outcome.words(), outcome.log())).or_insert(groups.len());
        match groups.get_mut(group) {
            Some((hosts, _)) => hosts.push(host),
            None => groups.push((vec![host], outcome)),
        }
    }
    groups
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

    #[test]
    fn what_hosts_have_alike_to_say_is_told_once_with_all_their_names() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| HostName::parse(name).unwrap());
        let failed = |log: &str| Outcome::Failed {
            stage: Stage::Build,
            reason: "no luck".into(),
            hint: None,
            log: log.into(),
        };
        let (shared, own) = (failed("x> bad"), failed("x> worse"));
        let outcomes = [(&a, &UP_TO_DATE), (&b, &shared), (&c, &own), (&d, &shared)];
        let expected = [(vec![&a], &UP_TO_DATE), (vec![&b, &d], &shared), (vec![&c], &own)];
        assert_eq!(alike(outcomes), expected);
        assert_eq!(alike([]), []);
    }

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
            (&[UP_TO_DATE, Outcome::Declined], 4),
            (&[unbuilt, interrupted], 130),
        ] {
            assert_eq!(exit(outcomes).code(), code, "{outcomes:?}");
        }
    }

    #[test]
    fn a_deploy_that_was_not_committed_never_exits_0_and_says_what_runs_now() {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let cause = Cause::NoConnection;
        for (ending, word) in [
            (Ending::Reverted { cause: cause.clone() }, "it runs generation 3 again"),
            (Ending::Inconclusive { cause }, "it runs generation 3 again"),
            (Ending::Refused { why: Refused::Locked }, "lock"),
        ] {
            let report = Report {
                id: "1".into(),
                toplevel: toplevel.clone(),
                ending,
                running: Some(toplevel.clone()),
                generation: Some(3),
                stuck: None,
                log: "/nix/var/bosco/1.log".into(),
            };
            let outcome = Outcome::of(Goal::Switch, &report, String::new());
            assert_eq!(outcome.exit(), Exit::NotDeployed, "{outcome:?}");
            assert!(outcome.words().contains(word), "{}", outcome.words());
            assert!(outcome.hint().unwrap().contains("/nix/var/bosco/1.log"), "{outcome:?}");
        }
    }
}

//! Whether a host is brought to its manifest now, and if not, why not and until when. Pure: the clock, the line and chance come
//! from outside.

use std::time::Duration;

use bosco_model::State;
use bosco_release::{Digest, Hold, Judged, Policy, Runs};
use bosco_wire::api::Phase;
use serde::{Deserialize, Serialize};

use crate::backoff::{ACTIVATE, BUILD, Backoff, FETCH};
use crate::window::{self, Local};

/// The most failures that are counted: more make no difference.
const MOST_FAILURES: u32 = 64;
/// How long it is at least between two looks for newer inputs, in seconds: who has them counts who asks.
const UPDATE: u64 = 3600;

/// What is known when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The manifest that the host goes by, as it is judged just now.
    pub judged: Option<&'a Judged>,
    /// How the host stands to it, where it could be asked.
    pub state: Option<State>,
    /// What the manifest's system, with its profiles, has done here, where it is in quarantine.
    pub quarantined: Option<&'a str>,
    /// An operator's word to stay.
    pub held: Option<&'a str>,
    /// Somebody's word to try now.
    pub nudge: Option<Nudge>,
    /// What came of the last try.
    pub last: Option<&'a Last>,
    /// When it has looked for newer inputs last, in seconds since 1970.
    pub updated: u64,
    /// Whether the hub is there: nothing could be fetched or proven without.
    pub connected: bool,
}

/// The moment at which it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now, in seconds since 1970, by a clock that may be wrong.
    pub now: u64,
    /// The same by local time.
    pub local: Local,
    /// Whether the machine runs on battery.
    pub on_battery: bool,
    /// Whether its line is paid by volume.
    pub on_metered: bool,
}

/// Somebody wants it tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nudge {
    /// Whoever sits at the machine: whatever the time, the line and the last try.
    Local,
    /// An operator: the same, and what is in quarantine as well.
    Operator,
}

/// What came of the last try at a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Last {
    /// The manifest.
    pub leaf: Digest,
    /// What came of it.
    pub came: Came,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub enum Came {
    /// The host has run it. Where it runs something else since then, somebody has brought it there.
    Arrived,
    /// It did not succeed.
    Failed {
        /// How often in a row.
        failures: u32,
        /// When, in seconds since 1970.
        since: u64,
        /// How long to wait from then on, in seconds.
        wait: u64,
        /// Why, in words.
        why: String,
    },
}

/// What a try failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Getting the closure.
    Fetching,
    /// Building itself.
    Building,
    /// The activation.
    Activating,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Fetch and activate.
    Go {
        /// What is in quarantine as well.
        again: bool,
    },
    /// Look for newer inputs of the flake that the host builds itself from, and take them.
    Update,
    /// Leave the host as it is.
    Stay {
        /// What that is called.
        phase: Phase,
        /// Why it is not at what its manifest says, where it is not.
        why: Option<String>,
        /// When to decide anew at the latest, where that is known.
        until: Option<Duration>,
    },
}

/// How an agent runs that a timer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it ran last, in seconds since 1970.
    pub came: u64,
    /// About how many seconds lie between two runs.
    pub every: u64,
}

impl Timer {
    /// What is known of it with one more run. Somebody may have started that by hand: what lay between the runs before is
    /// forgotten by halves only.
    #[must_use]
    pub fn ticked(before: Option<Self>, now: u64) -> Self {
        const DAY: u64 = 24 * 3600;
        // A clock that goes backwards says nothing, and one that jumps ahead not much.
        let since = |before: Self| now.saturating_sub(before.came).max(before.every / 2).min(7 * DAY);
        Self { came: now, every: before.map_or(DAY, since) }
    }
}

impl Last {
    /// What is known after one more failure.
    #[must_use]
    pub fn failed(before: Option<&Self>, leaf: Digest, at: At, why: String, now: u64, random: u64) -> Self {
        let failures = match before {
            Some(Self { leaf: same, came: Came::Failed { failures, .. } }) if *same == leaf => *failures,
            _ => 0,
        };
        let failures = failures.saturating_add(1).min(MOST_FAILURES);
        let backoff: Backoff = match at {
            At::Fetching => FETCH,
            At::Building => BUILD,
            At::Activating => ACTIVATE,
        };
        let wait = backoff.wait(failures, random).as_secs();
        Self { leaf, came: Came::Failed { failures, since: now, wait, why } }
    }
}

impl Came {
    /// How long it is until the next try. A clock that was set back, or far ahead, makes it none.
    fn left(&self, now: u64) -> Option<(u64, &str)> {
        let Self::Failed { since, wait, why, .. } = self else { return None };
        let passed = now.checked_sub(*since)?;
        let left = wait.checked_sub(passed).filter(|left| *left > 0)?;
        Some((left, why))
    }
}

fn stay(phase: Phase, why: impl Into<String>) -> Decision {
    Decision::Stay { phase, why: Some(why.into()), until: None }
}

/// Decides.
#[must_use]
pub fn decide(view: &View<'_>, moment: &Moment) -> Decision {
    let (opened, hold, late) = match view.judged {
        None => return Decision::Stay { phase: Phase::Idle, why: None, until: None },
        Some(Judged::Refused(why)) => return stay(Phase::Waiting, why.to_string()),
        Some(Judged::Held(opened, hold)) => (opened, Some(hold), None),
        Some(Judged::Late(opened, late)) => (opened, None, Some(late)),
        Some(Judged::Take(opened)) => (opened, None, None),
    };
    match view.state {
        None => return stay(Phase::Waiting, "the host could not be asked what it runs"),
        Some(State::UpToDate) => return settled(view, moment),
        Some(State::RebootNeeded | State::BootPending) => return stay(Phase::Idle, "a reboot brings it in"),
        Some(State::Updating) => return stay(Phase::Activating, "an activation is under way"),
        Some(State::Unfit) => return stay(Phase::Waiting, "this machine is no NixOS, or has no Nix"),
        Some(_) => {}
    }
    if let Some(Hold { number, toplevel, .. }) = hold {
        return stay(Phase::Waiting, format!("it was brought to {toplevel} by hand, as number {number}"));
    }
    if let Some(held) = view.held {
        return stay(Phase::Waiting, format!("an operator wants it to stay: {held}"));
    }
    if let Some(late) = late {
        return stay(Phase::Waiting, late.to_string());
    }
    if let Some(why) = view.quarantined.filter(|_| view.nudge != Some(Nudge::Operator)) {
        return stay(Phase::Waiting, format!("it has failed here, and is not tried again: {why}"));
    }
    let last = view.last.filter(|last| last.leaf == opened.leaf && view.nudge.is_none());
    if let Some(Last { came, .. }) = last {
        if *came == Came::Arrived {
            return stay(
                Phase::Waiting,
                "it has run it, and somebody has brought it to something else since",
            );
        }
        if let Some((left, why)) = came.left(moment.now) {
            let (phase, until) = (Phase::Backoff, Some(Duration::from_secs(left)));
            return Decision::Stay { phase, why: Some(why.to_owned()), until };
        }
    }
    if !view.connected {
        return stay(Phase::Waiting, "the hub can't be reached");
    }
    if view.nudge.is_none()
        && let Some(stay) = not_now(&opened.manifest.policy, moment)
    {
        return stay;
    }
    Decision::Go { again: view.nudge == Some(Nudge::Operator) }
}

/// Why it is not the time for a change.
pub(crate) fn not_now(policy: &Policy, moment: &Moment) -> Option<Decision> {
    match window::opens(&policy.windows, moment.local) {
        Some(0) => {}
        Some(minutes) => {
            let until = Some(Duration::from_secs(u64::from(minutes) * 60));
            let why = Some("it is not the time of its windows".into());
            return Some(Decision::Stay { phase: Phase::Waiting, why, until });
        }
        None => return Some(stay(Phase::Waiting, "none of its windows ever opens")),
    }
    if moment.on_battery && !policy.on_battery {
        return Some(stay(Phase::Waiting, "it runs on battery"));
    }
    if moment.on_metered && !policy.on_metered {
        return Some(stay(Phase::Waiting, "its line is paid by volume"));
    }
    None
}

/// What a host does that is where its manifest wants it: it may update the inputs of its own flake, where nothing else is to do.
fn settled(view: &View<'_>, moment: &Moment) -> Decision {
    let idle = |until| Decision::Stay { phase: Phase::Idle, why: None, until };
    let Some(Judged::Take(opened)) = view.judged else { return idle(None) };
    let Runs::Tree { self_update: true, .. } = opened.manifest.runs else { return idle(None) };
    if view.held.is_some() || !view.connected {
        return idle(None);
    }
    let policy = &opened.manifest.policy;
    if view.nudge.is_none() {
        if not_now(policy, moment).is_some() {
            return idle(None);
        }
        // A clock that was set back makes it due.
        let passed = moment.now.checked_sub(view.updated);
        let left = passed.and_then(|passed| policy.interval.max(UPDATE).checked_sub(passed));
        if let Some(left @ 1..) = left {
            return idle(Some(Duration::from_secs(left)));
        }
    }
    Decision::Update
}

/// What somebody should look into at once, of a manifest.
#[must_use]
pub fn alarm(judged: &Judged) -> Option<String> {
    match judged {
        Judged::Late(_, late) => Some(late.to_string()),
        Judged::Refused(why) if why.is_alarm() => Some(why.to_string()),
        Judged::Refused(_) | Judged::Held(..) | Judged::Take(_) => None,
    }
}

#[cfg(test)]
mod tests;

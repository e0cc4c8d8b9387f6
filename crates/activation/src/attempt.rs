//! The transaction: one attempt to bring a host to a system, as a state machine.
//!
//! An [`Attempt`] is all that the journal keeps of it. Its state says what is being done; [`Attempt::effect`] is that one
//! thing; [`Attempt::on`] takes what came of it, or something that happened meanwhile, and gives the attempt as it is
//! then. The hands write each state down before they begin with its effect, so that whoever finds the journal after a
//! crash knows what may have been begun. There is one method per state below, which says where it may go from there.
//!
//! *Commit last*: the default changes in [`State::SettingProfile`] and [`State::InstallingBoot`] only, which lie behind
//! the proof. Before them a crash, a hang or a power cut boots what ran before, without anybody's help.

use bosco_model::Goal;
use serde::{Deserialize, Serialize};

use crate::cause::Retest;
use crate::state::{Before, Checked, Event, Found, Into, Needs, State};
use crate::{Cause, Complaint, Effect, Ending, Refused, Request};

/// How often an attempt is taken up again before it counts as hopeless.
pub const RESUMPTIONS: u32 = 3;
/// How often going back is tried.
const REVERTS: u32 = 3;

/// One attempt to bring a host to a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// What was asked for.
    pub request: Request,
    /// When, in seconds since 1970 by the host's clock.
    pub since: u64,
    /// Where it is.
    #[serde(flatten)]
    pub state: State,
    /// What was there before, once that is known.
    #[serde(default)]
    pub before: Option<Before>,
    /// What only a boot can bring in.
    #[serde(default)]
    pub needs: Needs,
    /// Whether the host may reboot for it.
    #[serde(default)]
    pub may_reboot: bool,
    /// Whether it can be proven after a boot.
    #[serde(default)]
    pub proves_boot: bool,
    /// Whether the candidate has passed its probes.
    #[serde(default)]
    pub proven: bool,
    /// Whether the candidate may have been made to run, by a switch.
    #[serde(default)]
    pub switched: bool,
    /// Whether its secrets may have been put in their places, and nothing else was changed.
    #[serde(default)]
    pub only_secrets: bool,
    /// Whether profiles beside the system may have been set or activated.
    #[serde(default)]
    pub profiled: bool,
    /// Whether the candidate was booted.
    #[serde(default)]
    pub booted: bool,
    /// Whether the default may have been changed.
    #[serde(default)]
    pub committing: bool,
    /// Whether the candidate may have a boot entry of its own.
    #[serde(default)]
    pub entry: bool,
    /// The first thing that went wrong.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// How often it was taken up again.
    #[serde(default)]
    pub resumed: u32,
    /// How often going back has failed.
    #[serde(default)]
    pub reverts: u32,
    /// Why going back has failed, where it has: what the host boots next is not sure then.
    #[serde(default)]
    pub stuck: Option<Cause>,
}

impl Attempt {
    /// A new one.
    #[must_use]
    pub fn new(request: Request, since: u64) -> Self {
        Self {
            request,
            since,
            state: State::Checking,
            before: None,
            needs: Needs::Nothing,
            may_reboot: false,
            proves_boot: false,
            proven: false,
            switched: false,
            only_secrets: false,
            profiled: false,
            booted: false,
            committing: false,
            entry: false,
            cause: None,
            resumed: 0,
            reverts: 0,
            stuck: None,
        }
    }

    /// What is done in its state.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        Some(match self.state {
            State::Checking => Effect::Check,
            State::InstallingSecrets => Effect::InstallSecrets,
            State::Rooting => Effect::Root,
            State::Syncing => Effect::Sync,
            State::Arming => Effect::Arm,
            State::Switching => Effect::Switch,
            State::ActivatingProfiles => Effect::Profiles,
            State::Proving { .. } | State::Retesting { .. } => Effect::Probe,
            State::PreparingEntry => Effect::PrepareEntry,
            State::Rebooting { .. } => Effect::Reboot,
            State::SettingProfile => Effect::SetProfile,
            State::InstallingBoot => Effect::InstallBoot,
            State::Reverting => Effect::Revert,
            State::Closing { .. } => Effect::Disarm,
            State::Ended { .. } => return None,
        })
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        match &self.state {
            State::Ended { ending } => Some(ending),
            _ => None,
        }
    }

    /// Whether a fresh connection is what it waits for.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        matches!(
            self.state,
            State::Proving { connected: false, .. } | State::Retesting { connected: false, .. }
        )
    }

    /// Whether its effect has limits of its own, and must not be cut short half-way by the activation's.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        matches!(
            self.state,
            State::PreparingEntry | State::SettingProfile | State::InstallingBoot | State::Reverting
        )
    }

    /// Whether the activation's own time is over for it: what changes the default, goes back or is decided takes as long as
    /// that takes.
    #[must_use]
    pub fn is_past_its_time(&self) -> bool {
        self.ends_by_itself()
            || matches!(self.state, State::Retesting { .. } | State::Rebooting { .. } | State::Closing { .. })
    }

    /// Whether its effect may begin only once the state is on the disk. The way back must not depend on a disk with room.
    #[must_use]
    pub fn must_be_kept(&self) -> bool {
        self.commits_by_its_end()
            || !matches!(
                self.state,
                State::Proving { .. }
                    | State::Reverting
                    | State::Retesting { .. }
                    | State::Rebooting { into: Into::Old }
                    | State::Closing { .. }
                    | State::Ended { .. }
            )
    }

    /// Whether that it is about to end is what commits it: of secrets alone nothing else says so.
    fn commits_by_its_end(&self) -> bool {
        self.only_secrets && matches!(self.state, State::Closing { ending: Ending::Committed { .. } })
    }

    /// Whether a fresh connection can still follow, though it is not waited for any more.
    #[must_use]
    pub fn can_be_followed(&self) -> bool {
        matches!(
            self.state,
            State::Proving { .. }
                | State::SettingProfile
                | State::InstallingBoot
                | State::Retesting { .. }
                | State::Closing { .. }
        )
    }

    /// The attempt as it is after an event. One that means nothing in its state changes nothing.
    #[must_use]
    pub fn on(mut self, event: Event) -> Self {
        let was_booted = self.booted;
        match &event {
            Event::Resumed => self.resumed += 1,
            Event::Booted { running } => {
                self.switched = false;
                // Secrets alone need no boot back: it is what boots anyhow.
                let is_asked = running.as_ref() == Some(&self.request.toplevel);
                self.booted = is_asked && !self.only_secrets;
            }
            _ => {}
        }
        self.state = match self.state.clone() {
            State::Checking => self.checking(event),
            State::InstallingSecrets => self.installing_secrets(event),
            State::Rooting => self.preparing(event, State::Syncing),
            State::Syncing => self.preparing(event, State::Arming),
            State::Arming => {
                let next = self.way();
                self.preparing(event, next)
            }
            State::Switching => self.switching(event),
            State::ActivatingProfiles => self.activating_profiles(event),
            State::Proving { connected, healthy } => self.proving(connected, healthy, was_booted, event),
            State::PreparingEntry => self.preparing_entry(event),
            State::Rebooting { into } => self.rebooting(into, event),
            State::SettingProfile => self.committing(event, State::InstallingBoot),
            State::InstallingBoot => {
                let next = self.committed();
                self.committing(event, next)
            }
            State::Reverting => self.reverting(event),
            State::Retesting { connected, complaints } => self.retesting(connected, complaints, event),
            State::Closing { .. } if self.commits_by_its_end() && matches!(event, Event::Failed(_)) => {
                self.give_up(event)
            }
            State::Closing { ending } => closing(ending, &event),
            ended @ State::Ended { .. } => ended,
        };
        match self.state {
            State::InstallingSecrets => self.only_secrets = true,
            State::Switching => self.switched = true,
            State::ActivatingProfiles => self.profiled = true,
            State::PreparingEntry => self.entry = true,
            State::SettingProfile | State::InstallingBoot => self.committing = true,
            _ => {}
        }
        self
    }

    fn checking(&mut self, event: Event) -> State {
        if let Event::Done(Found::Checked(checked)) = event {
            let Checked { before, needs, proves_boot, wants_reboot, only_secrets } = *checked;
            self.before = Some(before);
            let needs = if self.request.profiles.only { Needs::Nothing } else { needs };
            self.needs = needs;
            self.proves_boot = proves_boot;
            self.may_reboot = self.request.reboot || wants_reboot;
            if needs == Needs::Init && self.request.goal == Goal::Test {
                return State::Closing { ending: Ending::Refused { why: Refused::NeedsReboot } };
            }
            return if only_secrets && self.wants_only_secrets() {
                State::InstallingSecrets
            } else {
                State::Rooting
            };
        }
        self.preparing(event, State::Checking)
    }

    /// Whether nothing is asked for that would not be there already, but for secrets.
    fn wants_only_secrets(&self) -> bool {
        let Request { goal, secrets, profiles, .. } = &self.request;
        let reboots = self.may_reboot && self.needs != Needs::Nothing;
        *goal == Goal::Switch && secrets.is_some() && profiles.all.is_empty() && !reboots
    }

    /// Nobody looks on: whoever finds it open does the same again. What runs is what was proven, and is not changed.
    fn installing_secrets(&mut self, event: Event) -> State {
        match event {
            Event::Done(_) => {
                let reboot = self.needs != Needs::Nothing;
                State::Closing { ending: Ending::Committed { reboot, proven: true } }
            }
            Event::Refused(why) if self.resumed == 0 => State::Closing { ending: Ending::Refused { why } },
            Event::Resumed if self.resumed <= RESUMPTIONS => State::InstallingSecrets,
            // A boot installs what was committed.
            Event::Booted { .. } => self.rebooted(Effect::InstallSecrets),
            other => self.give_up(other),
        }
    }

    /// A state in which nothing of what runs or boots is changed.
    fn preparing(&mut self, event: Event, next: State) -> State {
        let doing = self.effect().unwrap_or(Effect::Check);
        let why = match event {
            Event::Done(_) => return next,
            Event::Refused(why) => why,
            Event::Failed(Cause::Failed { doing, why }) => Refused::Failed { doing, why },
            Event::Failed(cause) => Refused::Failed { doing, why: cause.to_string() },
            Event::Overdue => Refused::Failed { doing, why: "it did not end in time".into() },
            Event::Resumed | Event::Booted { .. } => {
                let ending = Ending::Inconclusive { cause: Cause::Interrupted { doing } };
                return State::Closing { ending };
            }
            Event::Connected { .. } | Event::Silence => return self.state.clone(),
        };
        State::Closing { ending: Ending::Refused { why } }
    }

    /// Which way an attempt goes once all is ready.
    fn way(&self) -> State {
        match (self.request.goal, self.needs) {
            _ if self.request.profiles.only => self.follow_up(),
            // What is the default already can't be tried by one boot: there is nothing to fall back to.
            (Goal::Switch, Needs::Kernel | Needs::Init)
                if self.may_reboot && self.proves_boot && !self.is_default_already() =>
            {
                State::PreparingEntry
            }
            // Nothing can be switched to: it is made the next boot's, unproven.
            (Goal::Boot, _) | (Goal::Switch, Needs::Init) => self.follow_up(),
            _ => State::Switching,
        }
    }

    /// What comes once the system runs, or is only to be the next boot's: the other profiles, before anything is proven.
    fn follow_up(&self) -> State {
        if self.request.profiles.all.is_empty() { self.profiled() } else { State::ActivatingProfiles }
    }

    /// What comes once the other profiles are what they should be.
    fn profiled(&self) -> State {
        match self.request.goal {
            Goal::Boot if self.request.profiles.only => {
                State::Closing { ending: Ending::Committed { reboot: false, proven: false } }
            }
            Goal::Boot => State::SettingProfile,
            Goal::Switch if self.needs == Needs::Init && !self.booted => State::SettingProfile,
            _ => self.prove(),
        }
    }

    fn is_default_already(&self) -> bool {
        let profile = self.before.as_ref().and_then(|before| before.profile.as_ref());
        profile == Some(&self.request.toplevel)
    }

    fn switching(&mut self, event: Event) -> State {
        match event {
            Event::Done(_) => self.follow_up(),
            Event::Refused(why) => State::Closing { ending: Ending::Refused { why } },
            Event::Booted { .. } => self.rebooted(Effect::Switch),
            other => self.give_up(other),
        }
    }

    /// What a profile names outlasts a boot, and so does what its activation has left.
    fn activating_profiles(&mut self, event: Event) -> State {
        match event {
            Event::Done(_) => self.profiled(),
            other => self.give_up(other),
        }
    }

    fn proving(&mut self, connected: bool, healthy: bool, was_booted: bool, event: Event) -> State {
        let (connected, healthy) = match event {
            Event::Done(Found::Probed(complaints)) if complaints.is_empty() => (connected, true),
            Event::Done(Found::Probed(complaints)) => return self.revert(Cause::Unhealthy { complaints }),
            Event::Done(_) => (connected, healthy),
            // Much may have happened since it was looked at.
            Event::Connected { stale } => (true, healthy && !stale),
            Event::Silence if !connected => return self.revert(Cause::NoConnection),
            Event::Silence => (connected, healthy),
            Event::Overdue if !connected && healthy => return self.revert(Cause::NoConnection),
            // It was booted for this one time, and something else is there now.
            Event::Booted { .. } if was_booted => {
                return if self.booted { self.prove() } else { self.revert(Cause::DidNotBoot) };
            }
            Event::Booted { .. } => return self.rebooted(Effect::Probe),
            other => return self.give_up(other),
        };
        if !(connected && healthy) {
            return State::Proving { connected, healthy };
        }
        self.proven = true;
        match self.request.goal {
            Goal::Switch if !self.request.profiles.only => State::SettingProfile,
            _ => State::Closing { ending: Ending::Committed { reboot: false, proven: true } },
        }
    }

    fn preparing_entry(&mut self, event: Event) -> State {
        match event {
            Event::Done(_) => State::Rebooting { into: Into::Candidate },
            Event::Booted { .. } => self.revert(Cause::Interrupted { doing: Effect::PrepareEntry }),
            other => self.give_up(other),
        }
    }

    fn rebooting(&mut self, into: Into, event: Event) -> State {
        match event {
            Event::Booted { .. } => {}
            // It goes down; what is left of it says nothing.
            Event::Done(_) | Event::Connected { .. } | Event::Silence | Event::Refused(_) => {
                return State::Rebooting { into };
            }
            Event::Resumed if self.resumed <= RESUMPTIONS => return State::Rebooting { into },
            Event::Failed(cause) => return self.no_reboot(into, cause),
            Event::Overdue => return self.no_reboot(into, Cause::Overdue { doing: Effect::Reboot }),
            Event::Resumed => return self.no_reboot(into, Cause::Interrupted { doing: Effect::Reboot }),
        }
        match into {
            Into::Candidate if self.booted => self.follow_up(),
            Into::Candidate => self.revert(Cause::DidNotBoot),
            Into::Committed { proven } if self.booted => {
                State::Closing { ending: Ending::Committed { reboot: false, proven } }
            }
            Into::Committed { .. } => self.revert(Cause::DidNotBoot),
            // What it boots is the candidate itself: a boot does not bring back what ran before.
            Into::Old if self.booted => {
                self.stuck = Some(Cause::Failed {
                    doing: Effect::Reboot,
                    why: "it boots the new system by default".into(),
                });
                self.inconclusive()
            }
            Into::Old => {
                self.stuck = None;
                State::Reverting
            }
        }
    }

    /// A reboot could not be had.
    fn no_reboot(&mut self, into: Into, cause: Cause) -> State {
        match into {
            Into::Candidate => self.revert(cause),
            // What was asked for is the default; it only does not run yet.
            Into::Committed { proven } => {
                State::Closing { ending: Ending::Committed { reboot: true, proven } }
            }
            Into::Old => {
                self.stuck = Some(cause);
                self.reverts += 1;
                if self.reverts < 2 * REVERTS { State::Rebooting { into } } else { self.inconclusive() }
            }
        }
    }

    /// The default is being changed, which may be done again from its beginning.
    fn committing(&mut self, event: Event, next: State) -> State {
        let doing = self.effect().unwrap_or(Effect::SetProfile);
        match event {
            Event::Done(_) => next,
            Event::Connected { .. } | Event::Silence => self.state.clone(),
            Event::Resumed if self.resumed <= RESUMPTIONS => State::SettingProfile,
            Event::Booted { .. } if self.booted => State::SettingProfile,
            Event::Booted { .. } => self.revert(Cause::Interrupted { doing }),
            other => self.give_up(other),
        }
    }

    /// What comes once the default is changed.
    fn committed(&self) -> State {
        let waits = self.needs != Needs::Nothing && !self.booted || self.request.goal == Goal::Boot;
        if waits && self.may_reboot && self.request.goal == Goal::Switch {
            return State::Rebooting { into: Into::Committed { proven: self.proven } };
        }
        State::Closing { ending: Ending::Committed { reboot: waits, proven: self.proven } }
    }

    fn reverting(&mut self, event: Event) -> State {
        if matches!(event, Event::Done(_)) {
            self.stuck = None;
        }
        match event {
            // The same script fails on the old system.
            Event::Done(Found::Back { script_failed: true })
                if matches!(self.cause, Some(Cause::ActivationScript | Cause::Profile { .. })) =>
            {
                self.inconclusive()
            }
            // It was booted into: only another boot brings the other kernel back.
            Event::Done(_) if self.booted => {
                self.booted = false;
                State::Rebooting { into: Into::Old }
            }
            Event::Done(_) if self.cause.as_ref().is_some_and(Cause::wants_retest) => {
                State::Retesting { connected: !self.request.connection, complaints: None }
            }
            Event::Done(_) => self.close(&Retest::default()),
            // It has installed the secrets that were committed.
            Event::Booted { .. } if self.only_secrets => self.inconclusive(),
            Event::Booted { .. } => State::Reverting,
            Event::Resumed if self.resumed <= RESUMPTIONS => State::Reverting,
            Event::Failed(cause) => self.stuck(cause),
            Event::Refused(why) => self.stuck(Cause::Failed { doing: Effect::Revert, why: why.to_string() }),
            Event::Resumed => self.stuck(Cause::Interrupted { doing: Effect::Revert }),
            // It has a limit of its own.
            Event::Overdue | Event::Connected { .. } | Event::Silence => State::Reverting,
        }
    }

    /// What was before did not come back. It is tried again; then a boot does it, as what the host boots is what ran
    /// before.
    fn stuck(&mut self, cause: Cause) -> State {
        self.stuck = Some(cause);
        self.reverts += 1;
        // No boot brings a profile back that is the user's own.
        let helps = !matches!(self.stuck, Some(Cause::Profile { .. }));
        if self.reverts < REVERTS {
            State::Reverting
        } else if self.reverts < 2 * REVERTS && helps && (self.switched || self.booted) {
            self.switched = false;
            self.booted = false;
            State::Rebooting { into: Into::Old }
        } else {
            self.inconclusive()
        }
    }

    fn retesting(&mut self, connected: bool, complaints: Option<Vec<Complaint>>, event: Event) -> State {
        let (connected, complaints, waits) = match event {
            Event::Done(Found::Probed(found)) => (connected, Some(found), true),
            Event::Connected { .. } => (true, complaints, true),
            Event::Silence | Event::Overdue => (connected, complaints, false),
            Event::Done(_) | Event::Refused(_) => (connected, complaints, true),
            // Nothing can be said for the old system, and so nothing against the new one.
            Event::Failed(_) | Event::Resumed | Event::Booted { .. } => return self.inconclusive(),
        };
        let lacks_connection = !connected && self.cause == Some(Cause::NoConnection);
        match complaints {
            Some(complaints) if !lacks_connection || !waits => self.close(&Retest { connected, complaints }),
            None if !waits && lacks_connection => self.close(&Retest { connected, complaints: Vec::new() }),
            None if !waits => self.inconclusive(),
            complaints => State::Retesting { connected, complaints },
        }
    }

    /// What ends an effect that has begun to change something.
    fn give_up(&mut self, event: Event) -> State {
        let doing = self.effect().unwrap_or(Effect::Switch);
        let cause = match event {
            Event::Failed(cause) => cause,
            Event::Refused(why) => Cause::Failed { doing, why: why.to_string() },
            Event::Overdue => Cause::Overdue { doing },
            Event::Resumed | Event::Booted { .. } => Cause::Interrupted { doing },
            Event::Done(_) | Event::Connected { .. } | Event::Silence => return self.state.clone(),
        };
        self.revert(cause)
    }

    fn revert(&mut self, cause: Cause) -> State {
        self.cause.get_or_insert(cause);
        State::Reverting
    }

    /// The candidate runs, and nothing is known of it.
    fn prove(&self) -> State {
        State::Proving { connected: !self.request.connection, healthy: false }
    }

    /// A boot has taken away what was only running.
    fn rebooted(&mut self, doing: Effect) -> State {
        let cause = Cause::Interrupted { doing };
        if self.profiled {
            return self.revert(cause);
        }
        self.cause.get_or_insert(cause.clone());
        State::Closing { ending: Ending::Inconclusive { cause } }
    }

    fn close(&mut self, retest: &Retest) -> State {
        match self.cause.clone() {
            Some(Cause::NoConnection) if self.request.doubts_hub => self.inconclusive(),
            Some(cause) if cause.blames_candidate(retest) => {
                State::Closing { ending: Ending::Reverted { cause } }
            }
            _ => self.inconclusive(),
        }
    }

    fn inconclusive(&mut self) -> State {
        let unknown = || Cause::Interrupted { doing: Effect::Revert };
        State::Closing { ending: Ending::Inconclusive { cause: self.cause.clone().unwrap_or_else(unknown) } }
    }
}

/// It is decided, whatever becomes of what is left to be taken away.
fn closing(ending: Ending, event: &Event) -> State {
    match event {
        Event::Done(_) | Event::Failed(_) | Event::Refused(_) | Event::Overdue => State::Ended { ending },
        Event::Connected { .. } | Event::Silence | Event::Resumed | Event::Booted { .. } => {
            State::Closing { ending }
        }
    }
}

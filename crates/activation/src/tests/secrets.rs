//! Which secrets a system gets, whatever happens in between.

use bosco_model::{Digest, Goal};
use proptest::prelude::*;

use super::*;

fn bundle(text: &str) -> Digest {
    Digest::of(&[text.as_bytes()])
}

/// Whether a system is that one.
fn is(one: StorePath) -> impl Fn(&StorePath) -> bool {
    move |asked| *asked == one
}

/// A host that has come to `old`, in an attempt that brings `new`.
fn journal(state: State, booted: bool) -> Journal {
    let mut attempt = attempt(Goal::Switch);
    attempt.request.secrets = Some(bundle("new"));
    attempt.state = state;
    attempt.booted = booted;
    Journal { attempt: Some(attempt), secrets: Some(bundle("old")), ..Journal::default() }
}

#[test]
fn a_candidate_on_its_way_forward_gets_its_own_secrets_and_nothing_else_does() {
    let committed = Ending::Committed { reboot: false, proven: true };
    let reverted = Ending::Reverted { cause: Cause::NoConnection };
    let proving = State::Proving { connected: false, healthy: false };
    for (state, booted, this_boot, own) in [
        (State::Checking, false, true, false),
        (State::Arming, false, true, false),
        (State::InstallingSecrets, false, true, true),
        (State::InstallingSecrets, false, false, false),
        (State::Switching, false, true, true),
        (State::Switching, false, false, false),
        (proving.clone(), false, true, true),
        (proving.clone(), false, false, false),
        (proving, true, false, true),
        (State::Rebooting { into: Into::Candidate }, false, false, true),
        (State::Rebooting { into: Into::Old }, true, false, false),
        (State::SettingProfile, false, false, true),
        (State::InstallingBoot, false, true, true),
        (State::Reverting, false, true, false),
        (State::Retesting { connected: true, complaints: None }, false, true, false),
        (State::Closing { ending: committed }, false, true, true),
        (State::Closing { ending: reverted.clone() }, false, true, false),
        (State::Ended { ending: reverted }, false, true, false),
    ] {
        let journal = journal(state.clone(), booted);
        let expected = bundle(if own { "new" } else { "old" });
        assert_eq!(journal.secrets_of(is(new()), this_boot), Some(expected), "{state:?}, {this_boot}");
        assert_eq!(
            journal.secrets_of(is(old()), this_boot),
            Some(bundle("old")),
            "{state:?}: it is another one"
        );
    }
}

#[test]
fn a_commit_makes_them_the_hosts_and_what_brings_none_leaves_them() {
    let ended = |ending| {
        let mut journal = journal(State::Ended { ending }, false);
        journal.close(1);
        journal
    };
    let committed = ended(Ending::Committed { reboot: false, proven: true });
    assert_eq!(committed.secrets, Some(bundle("new")));
    assert_eq!(committed.secrets_in_use(), [bundle("new")]);
    assert_eq!(ended(Ending::Reverted { cause: Cause::NoConnection }).secrets, Some(bundle("old")));

    let mut rollback =
        journal(State::Ended { ending: Ending::Committed { reboot: false, proven: true } }, false);
    if let Some(attempt) = &mut rollback.attempt {
        attempt.request.secrets = None;
    }
    rollback.close(1);
    assert_eq!(rollback.secrets, Some(bundle("old")), "it goes on with the newest");
}

#[test]
fn a_test_leaves_what_the_next_boot_gets() {
    let mut tested =
        journal(State::Ended { ending: Ending::Committed { reboot: false, proven: true } }, false);
    if let Some(attempt) = &mut tested.attempt {
        attempt.request.goal = Goal::Test;
    }
    tested.close(1);
    assert_eq!(tested.secrets, Some(bundle("old")));
}

#[test]
fn what_failed_with_other_secrets_is_not_held_against_it() {
    let mut failed = journal(State::Ended { ending: Ending::Reverted { cause: Cause::NoConnection } }, false);
    failed.close(1);
    let ask = |secrets| Request { secrets, ..attempt(Goal::Switch).request };
    assert!(failed.refusal(&ask(Some(bundle("new")))).is_some());
    assert_eq!(failed.refusal(&ask(Some(bundle("mended")))), None);
    assert!(failed.refusal(&ask(None)).is_some(), "nothing is said of others");
}

/// What a look has brought at a host that runs the candidate already, and of whose secrets no unit has to hear.
fn only_secrets() -> Event {
    let Event::Done(Found::Checked(mut found)) = checked(Needs::Nothing) else { unreachable!() };
    found.before = Before { running: new(), profile: Some(new()), ..found.before };
    found.only_secrets = true;
    Event::Done(Found::Checked(found))
}

fn with_new() -> Attempt {
    let mut attempt = attempt(Goal::Switch);
    attempt.request.secrets = Some(bundle("new"));
    attempt
}

#[test]
fn where_nothing_but_secrets_changes_nothing_is_switched_and_nothing_proven() {
    use Effect::{Check, Disarm, InstallSecrets, Revert, Root};
    let failed = || Cause::Failed { doing: InstallSecrets, why: "no such user".into() };
    let committed = Ending::Committed { reboot: false, proven: true };
    let interrupted = Ending::Inconclusive { cause: Cause::Interrupted { doing: InstallSecrets } };
    let locked = Refused::Locked;
    let booted = || Event::Booted { running: Some(new()) };
    for (events, came, ending) in [
        (vec![done(), done()], vec![Disarm], committed.clone()),
        (vec![Event::Resumed, done(), done()], vec![Disarm], committed),
        (vec![Event::Refused(locked.clone()), done()], vec![Disarm], Ending::Refused { why: locked }),
        (
            vec![Event::Failed(failed()), done(), done()],
            vec![Revert, Disarm],
            Ending::Inconclusive { cause: failed() },
        ),
        (
            vec![Event::Overdue, done(), done()],
            vec![Revert, Disarm],
            Ending::Inconclusive { cause: Cause::Overdue { doing: InstallSecrets } },
        ),
        // That it is committed could not be written down.
        (
            vec![done(), Event::Failed(failed()), done(), done()],
            vec![Disarm, Revert, Disarm],
            Ending::Inconclusive { cause: failed() },
        ),
        (vec![booted(), done()], vec![Disarm], interrupted.clone()),
        (
            vec![Event::Failed(failed()), booted(), done()],
            vec![Revert, Disarm],
            Ending::Inconclusive { cause: failed() },
        ),
        (
            vec![Event::Resumed; 4].into_iter().chain([done(), done()]).collect(),
            vec![Revert, Disarm],
            interrupted,
        ),
    ] {
        let (effects, ended) = effects(with_new(), [vec![only_secrets()], events.clone()].concat());
        assert_eq!(effects, [vec![Check, InstallSecrets], came].concat(), "{events:?}");
        assert_eq!(ended, Some(ending), "{events:?}");
    }
    let mut others = [with_new(), with_new(), with_new()];
    others[0].request.goal = Goal::Test;
    others[1].request.profiles.all = two();
    others[2].request.secrets = None;
    for other in others {
        assert_eq!(effects(other, vec![only_secrets()]).0, [Check, Root]);
    }
    // It waits for a boot, which it may have now or not.
    for (reboot, next) in [(true, Root), (false, InstallSecrets)] {
        let Event::Done(Found::Checked(mut found)) = only_secrets() else { unreachable!() };
        found.needs = Needs::Kernel;
        let mut waiting = with_new();
        waiting.request.reboot = reboot;
        let events = vec![Event::Done(Found::Checked(found)), done(), done()];
        let (effects, ending) = effects(waiting, events);
        assert_eq!(effects[1], next);
        assert!(reboot || ending == Some(Ending::Committed { reboot: true, proven: true }));
    }
}

/// What strikes while secrets are installed: what is done then, and whether the effect has done something by then.
fn strike() -> impl Strategy<Value = (Event, bool)> {
    let event = prop::sample::select(vec![
        done(),
        done(),
        Event::Failed(Cause::Failed { doing: Effect::InstallSecrets, why: "luck".into() }),
        Event::Refused(Refused::Locked),
        Event::Booted { running: Some(new()) },
        Event::Resumed,
        Event::Overdue,
        Event::Silence,
    ]);
    (event, any::<bool>())
}

fn event() -> impl Strategy<Value = Event> {
    prop::sample::select(vec![
        checked(Needs::Nothing),
        only_secrets(),
        Event::Done(Found::Nothing),
        Event::Done(Found::Nothing),
        Event::Done(Found::Probed(Vec::new())),
        Event::Connected { stale: false },
        Event::Failed(Cause::ActivationScript),
        Event::Booted { running: Some(old()) },
        Event::Booted { running: Some(new()) },
        Event::Resumed,
        Event::Silence,
        Event::Overdue,
    ])
}

proptest! {
    #[test]
    fn a_host_has_the_secrets_that_its_journal_says_whatever_strikes_while_they_are_installed(
        strikes in prop::collection::vec(strike(), 0..20),
    ) {
        let attempt = with_new().on(only_secrets());
        let mut journal =
            Journal { attempt: Some(attempt), secrets: Some(bundle("old")), ..Journal::default() };
        let mut installed = bundle("old");
        let settled = std::iter::repeat_n((done(), true), 20);
        for (event, begun) in strikes.into_iter().chain(settled) {
            let Some(one) = journal.attempt.clone() else { unreachable!() };
            let does = matches!(one.effect(), Some(Effect::InstallSecrets | Effect::Revert));
            // Who refuses has done nothing; what else is no end of it says nothing of it.
            let may_have = begun && !matches!(event, Event::Refused(_) | Event::Silence);
            if does && (matches!(event, Event::Done(_)) || may_have) {
                installed = journal.secrets_of(is(new()), true).unwrap();
            }
            if matches!(event, Event::Booted { .. }) {
                installed = journal.secrets_of(is(new()), false).unwrap();
            }
            let was_open = one.ending().is_none();
            let next = one.on(event);
            prop_assert!(!matches!(next.effect(), Some(Effect::Switch | Effect::Reboot | Effect::SetProfile)));
            journal.attempt = Some(next);
            if was_open && journal.open().is_none() {
                journal.close(1);
            }
        }
        prop_assert!(journal.open().is_none());
        let stuck = journal.attempt.as_ref().is_some_and(|attempt| attempt.stuck.is_some());
        prop_assert!(stuck || Some(installed) == journal.secrets, "{journal:?}");
    }

    #[test]
    fn the_secrets_change_with_a_commit_only(events in prop::collection::vec(event(), 0..40)) {
        let mut journal = journal(State::Checking, false);
        for event in events {
            let attempt = journal.attempt.take().map(|attempt| attempt.on(event));
            journal.attempt = attempt;
            let ending = journal.attempt.as_ref().and_then(Attempt::ending).cloned();
            if ending.is_some() {
                journal.close(1);
            }
            let committed = matches!(ending, Some(Ending::Committed { .. }));
            prop_assert_eq!(journal.secrets == Some(bundle("new")), committed);
            prop_assert_eq!(journal.secrets == Some(bundle("old")), !committed);
        }
    }
}

/// One activation from its beginning to its end, of one of three systems with one of three bundles or none, and how it ends.
#[derive(Debug, Clone)]
struct Turn {
    goal: Goal,
    system: u8,
    secrets: Option<u8>,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Committed,
    Reverted,
    /// The power fails behind the switch.
    Cut,
    /// The power fails once all is decided.
    CutLate,
}

fn turn() -> impl Strategy<Value = Turn> {
    let goal = prop::sample::select(vec![Goal::Switch, Goal::Test, Goal::Test, Goal::Boot]);
    let secrets = prop::option::weighted(0.8, 0..3_u8);
    let ends = prop::sample::select(vec![
        Ends::Committed,
        Ends::Committed,
        Ends::Reverted,
        Ends::Reverted,
        Ends::Cut,
        Ends::CutLate,
    ]);
    (goal, 0..3_u8, secrets, ends).prop_map(|(goal, system, secrets, ends)| Turn {
        goal,
        system,
        secrets,
        ends,
    })
}

/// A host whose systems install secrets at each switch and each boot, and which keeps only the bundles that are in use.
struct Installing {
    journal: Journal,
    boot: u32,
    running: StorePath,
    installed: Option<Digest>,
    default: StorePath,
    kept: Vec<Digest>,
    /// Whether what runs was only tested, with secrets of its own.
    own: bool,
}

impl Installing {
    fn activate(&mut self, system: StorePath) -> Result<(), TestCaseError> {
        let this_boot = self.journal.boot == self.boot.to_string();
        self.installed = self.journal.secrets_of(is(system.clone()), this_boot);
        self.running = system;
        prop_assert!(
            self.installed.is_none_or(|bundle| self.kept.contains(&bundle)),
            "it is not kept any more"
        );
        Ok(())
    }

    fn reboot(&mut self) -> Result<Event, TestCaseError> {
        self.boot += 1;
        self.activate(self.default.clone())?;
        Ok(Event::Booted { running: Some(self.running.clone()) })
    }

    fn tell(&mut self, event: Event) -> Result<Option<Effect>, TestCaseError> {
        self.journal.boot = self.boot.to_string();
        let one = self.journal.attempt.take().map(|one| one.on(event));
        self.journal.attempt = one.clone();
        if one.as_ref().is_some_and(|one| one.ending().is_some()) {
            self.journal.close(1);
            self.kept = self.journal.secrets_in_use();
        }
        Ok(one.and_then(|one| one.effect()))
    }

    /// Goes through an attempt. Whether what was there before has to be there again.
    fn go(&mut self, turn: &Turn) -> Result<(), TestCaseError> {
        let mut one = attempt(turn.goal);
        one.request.toplevel = path(turn.system);
        one.request.secrets = turn.secrets.map(|number| bundle(&number.to_string()));
        self.kept.extend(one.request.secrets);
        self.journal.attempt = Some(one);
        let before = (self.running.clone(), self.installed, self.boot);
        let Event::Done(Found::Checked(mut found)) = checked(Needs::Nothing) else { unreachable!() };
        found.before.running = self.running.clone();
        let mut effect = self.tell(Event::Done(Found::Checked(found)))?;
        while let Some(doing) = effect {
            let ends = turn.ends;
            let event = match doing {
                Effect::Switch => {
                    self.activate(path(turn.system))?;
                    if ends == Ends::Cut { self.reboot()? } else { done() }
                }
                Effect::Probe if ends == Ends::Reverted && self.running == path(turn.system) => sick(),
                Effect::Probe
                    if matches!(
                        self.journal.open().map(|one| &one.state),
                        Some(State::Proving { connected: false, .. })
                    ) =>
                {
                    CONNECTED
                }
                Effect::Probe => healthy(),
                Effect::Revert => {
                    let goes_back = self.journal.open().is_some_and(|one| one.switched);
                    if goes_back {
                        self.activate(before.0.clone())?;
                    }
                    Event::Done(Found::Back { script_failed: false })
                }
                Effect::InstallBoot => {
                    self.default = path(turn.system);
                    done()
                }
                Effect::Disarm if ends == Ends::CutLate && self.boot == before.2 => self.reboot()?,
                _ => done(),
            };
            effect = self.tell(event)?;
        }
        if self.boot == before.2 && turn.ends == Ends::Reverted && turn.goal != Goal::Boot {
            // What was committed goes back to the newest.
            let had = if self.own { before.1 } else { self.journal.secrets };
            prop_assert_eq!((&self.running, self.installed), (&before.0, had), "it is not what it was");
        }
        if turn.goal != Goal::Boot && turn.ends == Ends::Committed {
            self.own = turn.goal == Goal::Test && turn.secrets.is_some();
        }
        if self.boot != before.2 {
            self.own = false;
            prop_assert_eq!(self.installed, self.journal.secrets, "a boot brings what was committed");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn what_is_gone_back_to_has_the_secrets_that_it_had_also_where_it_was_only_tested(
        turns in prop::collection::vec(turn(), 1..8),
    ) {
        let mut host = Installing {
            journal: Journal::default(),
            boot: 0,
            running: path(0),
            installed: None,
            default: path(0),
            kept: Vec::new(),
            own: false,
        };
        for turn in turns {
            host.go(&turn)?;
        }
    }
}

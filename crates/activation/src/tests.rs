//! Tests of the transaction in a world that it changes: a machine with a profile, a boot loader and a power switch.

use std::collections::BTreeSet;

use bosco_model::{Goal, Profile, ProfileAt, ProfileName, Profiles, StorePath, UserName};
use proptest::prelude::*;

use super::*;

mod numbers;
mod profiles;
mod secrets;

fn path(number: u8) -> StorePath {
    StorePath::parse(&format!("/nix/store/{}-nixos-system-{number}", "0".repeat(32))).unwrap()
}

fn old() -> StorePath {
    path(0)
}

fn new() -> StorePath {
    path(1)
}

/// Two profiles beside the system.
fn two() -> Vec<ProfileAt> {
    let one = |user: &str| Profile {
        name: ProfileName::parse("app").unwrap(),
        user: UserName::parse(user).unwrap(),
        place: None,
    };
    vec![ProfileAt { profile: one("root"), path: path(3) }, ProfileAt { profile: one("ada"), path: path(4) }]
}

fn attempt(goal: Goal) -> Attempt {
    let request = Request {
        id: "1".into(),
        goal,
        toplevel: new(),
        profiles: Profiles::default(),
        limits: bosco_model::Limits::default(),
        secrets: None,
        generation: None,
        by: "ada@laptop".into(),
        reboot: false,
        again: false,
        connection: true,
        number: 0,
        hold: false,
        lifts: 0,
        doubts_hub: false,
    };
    Attempt::new(request, 0)
}

fn checked(needs: Needs) -> Event {
    let before = Before {
        running: old(),
        specialisation: None,
        profile: Some(old()),
        generation: Some(1),
        failed: BTreeSet::new(),
        profiles: Vec::new(),
    };
    let found = Checked { before, needs, proves_boot: true, wants_reboot: false, only_secrets: false };
    Event::Done(Found::Checked(Box::new(found)))
}

fn done() -> Event {
    Event::Done(Found::Nothing)
}

fn healthy() -> Event {
    Event::Done(Found::Probed(Vec::new()))
}

const CONNECTED: Event = Event::Connected { stale: false };

fn sick() -> Event {
    let complaint = Complaint::Unit { unit: "web.service".into(), log: Vec::new() };
    Event::Done(Found::Probed(vec![complaint]))
}

/// The effects of an attempt that is told these events, one after the other.
fn effects(mut attempt: Attempt, events: Vec<Event>) -> (Vec<Effect>, Option<Ending>) {
    let mut effects = vec![attempt.effect().unwrap()];
    for event in events {
        let state = attempt.state.clone();
        attempt = attempt.on(event);
        if attempt.state != state {
            effects.extend(attempt.effect());
        }
    }
    effects.dedup();
    (effects, attempt.ending().cloned())
}

#[test]
fn a_good_candidate_is_proven_and_then_made_the_default() {
    use Effect::{Arm, Check, Disarm, InstallBoot, Probe, Root, SetProfile, Switch, Sync};
    let events = vec![
        checked(Needs::Nothing),
        done(),
        done(),
        done(),
        done(),
        CONNECTED,
        healthy(),
        done(),
        done(),
        done(),
    ];
    let (effects, ending) = effects(attempt(Goal::Switch), events);
    assert_eq!(effects, [Check, Root, Sync, Arm, Switch, Probe, SetProfile, InstallBoot, Disarm]);
    assert_eq!(ending, Some(Ending::Committed { reboot: false, proven: true }));
}

fn proving(more: Vec<Event>) -> (Vec<Effect>, Option<Ending>) {
    let (effects, ending) = effects(
        attempt(Goal::Switch),
        [vec![checked(Needs::Nothing), done(), done(), done(), done()], more].concat(),
    );
    (effects[5..].to_vec(), ending)
}

#[test]
fn what_does_not_hold_is_looked_at_again_on_the_old_system_before_anybody_is_blamed() {
    use Effect::{Disarm, Probe, Revert};
    for (probe, retest, ending) in [
        (sick(), healthy(), "reverted"),
        (sick(), sick(), "inconclusive"),
        (Event::Silence, CONNECTED, "reverted"),
        (Event::Silence, Event::Silence, "inconclusive"),
    ] {
        let (effects, ended) = proving(vec![probe.clone(), done(), retest.clone(), healthy(), done()]);
        assert_eq!(effects, [Probe, Revert, Probe, Disarm], "{probe:?}, {retest:?}");
        let kind = match ended {
            Some(Ending::Reverted { .. }) => "reverted",
            Some(Ending::Inconclusive { .. }) => "inconclusive",
            other => panic!("{probe:?}, {retest:?}: {other:?}"),
        };
        assert_eq!(kind, ending, "{probe:?}, {retest:?}");
    }
}

#[test]
fn a_connection_that_does_not_come_is_not_blamed_where_the_hub_is_doubted_and_all_else_is() {
    let mut asked = attempt(Goal::Switch);
    asked.request.doubts_hub = true;
    let before = vec![checked(Needs::Nothing), done(), done(), done(), done()];
    let ended = |probe: Event| {
        let events = [before.clone(), vec![probe, done(), CONNECTED, healthy(), done()]].concat();
        effects(asked.clone(), events).1
    };
    assert!(matches!(ended(Event::Silence), Some(Ending::Inconclusive { cause: Cause::NoConnection })));
    assert!(matches!(ended(sick()), Some(Ending::Reverted { .. })));
}

#[test]
fn a_candidate_that_needs_another_kernel_is_booted_once_and_proven_before_it_is_committed() {
    use Effect::{Arm, Check, Disarm, InstallBoot, PrepareEntry, Probe, Reboot, Root, SetProfile, Sync};
    let mut asked = attempt(Goal::Switch);
    asked.request.reboot = true;
    let ready = vec![checked(Needs::Kernel), done(), done(), done(), done()];
    let up = vec![Event::Booted { running: Some(new()) }, healthy(), CONNECTED, done(), done(), done()];
    let (came, ending) = effects(asked.clone(), [ready.clone(), up].concat());
    assert_eq!(came, [Check, Root, Sync, Arm, PrepareEntry, Reboot, Probe, SetProfile, InstallBoot, Disarm]);
    assert_eq!(ending, Some(Ending::Committed { reboot: false, proven: true }));

    let fell_back = vec![Event::Booted { running: Some(old()) }, done(), done()];
    let (came, ending) = effects(asked, [ready, fell_back].concat());
    assert_eq!(came.last(), Some(&Disarm));
    assert_eq!(ending, Some(Ending::Reverted { cause: Cause::DidNotBoot }));

    let (came, ending) = effects(
        attempt(Goal::Switch),
        vec![checked(Needs::Init), done(), done(), done(), done(), done(), done()],
    );
    assert!(!came.contains(&Effect::Switch), "{came:?}");
    assert_eq!(ending, Some(Ending::Committed { reboot: true, proven: false }));
}

#[test]
fn a_journal_says_what_must_not_be_tried_again() {
    let ended = |ending| Attempt { state: State::Ended { ending }, ..attempt(Goal::Switch) };
    let interrupted = || Ending::Inconclusive { cause: Cause::Interrupted { doing: Effect::Switch } };
    let mut journal = Journal { attempt: Some(ended(interrupted())), ..Journal::default() };
    journal.close(1);
    assert!(journal.quarantined(&new()).is_none(), "once is no reason");
    journal.close(2);
    assert!(journal.quarantined(&new()).unwrap().why.contains("second time"));
    journal.attempt = Some(ended(Ending::Committed { reboot: false, proven: true }));
    journal.close(3);
    assert_eq!(journal.quarantined(&new()), None);
    journal.attempt = Some(ended(Ending::Reverted { cause: Cause::NoConnection }));
    journal.close(4);
    assert!(journal.quarantined(&new()).is_some());
    journal.attempt = Some(ended(Ending::Inconclusive { cause: Cause::NoConnection }));
    assert!(journal.forgive(&new()));
    journal.close(5);
    assert_eq!(journal.quarantined(&new()), None, "the line was down; nobody is to blame");
}

#[test]
fn an_attempt_is_the_same_after_a_crash_as_it_was_written_down() {
    let journal =
        Journal { attempt: Some(attempt(Goal::Switch).on(checked(Needs::Kernel))), ..Journal::default() };
    let text = serde_json::to_string(&journal).unwrap();
    assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    assert!(!text.contains('\n'));
}

#[test]
fn a_journal_of_another_version_keeps_its_quarantine_and_says_what_is_open() {
    let held = Quarantined {
        toplevel: new(),
        profiles: Vec::new(),
        secrets: None,
        why: "it failed".into(),
        since: 1,
    };
    let journal =
        Journal { attempt: Some(attempt(Goal::Switch)), quarantine: vec![held], ..Journal::default() };
    let text = serde_json::to_string(&journal).unwrap();
    assert_eq!(Journal::read(text.as_bytes()).unwrap(), (journal, Unread::Nothing));
    let other = text.replace("checking", "dancing");
    let (read, unread) = Journal::read(other.as_bytes()).unwrap();
    assert_eq!((read.quarantined(&new()).is_some(), unread), (true, Unread::OpenAttempt));
    let over = text.replace("\"checking\"", "\"ended\"");
    assert_eq!(Journal::read(over.as_bytes()).unwrap().1, Unread::Something);
    assert!(Journal::read(b"no json").is_err());
}

/// A machine that an attempt works on.
#[derive(Debug, Clone)]
struct World {
    running: StorePath,
    profile: StorePath,
    /// What the boot loader boots.
    default: StorePath,
    once: Option<StorePath>,
    /// Whether each profile beside the system is the new one.
    others: [bool; 2],
    /// What was there before the attempt: profile and default need not be what runs.
    start: StorePath,
    /// Whether what runs was seen to be well in this boot, by probes and by a fresh connection.
    seen_well: bool,
    connected: bool,
    boots: u32,
    /// An effect that always fails.
    broken: Option<Effect>,
}

/// What happens next, and how.
#[derive(Debug, Clone, Copy)]
enum Luck {
    /// The effect succeeds, where it can.
    Well,
    /// The effect fails, having done all, or nothing.
    Fails {
        done: bool,
    },
    /// The effect says, having done nothing, that it must not be done.
    Refuses,
    /// The probes complain, or there is no connection.
    Sick,
    Connected {
        stale: bool,
    },
    Silence,
    Overdue,
    /// Who carries it out is killed, the effect being done or not.
    Killed {
        done: bool,
    },
    /// The power fails.
    Cut {
        done: bool,
    },
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        8 => Just(Luck::Well),
        1 => any::<bool>().prop_map(|done| Luck::Fails { done }),
        1 => Just(Luck::Refuses),
        1 => Just(Luck::Sick),
        2 => any::<bool>().prop_map(|stale| Luck::Connected { stale }),
        1 => Just(Luck::Silence),
        1 => Just(Luck::Overdue),
        1 => any::<bool>().prop_map(|done| Luck::Killed { done }),
        1 => any::<bool>().prop_map(|done| Luck::Cut { done }),
    ]
}

/// What an attempt begins with.
#[derive(Debug, Clone)]
struct Case {
    goal: Goal,
    needs: Needs,
    reboot: bool,
    proves_boot: bool,
    connection: bool,
    start: StorePath,
    profiles: bool,
    only: bool,
    broken: Option<Effect>,
}

fn case() -> impl Strategy<Value = Case> {
    let goal = prop::sample::select(vec![Goal::Switch, Goal::Switch, Goal::Test, Goal::Boot]);
    let needs = prop::sample::select(vec![Needs::Nothing, Needs::Nothing, Needs::Kernel, Needs::Init]);
    // What booted by default before: as a rule what runs, or the candidate, or something else.
    let start = prop::sample::select(vec![0, 0, 0, 1, 2]).prop_map(path);
    let broken = prop::option::weighted(0.2, prop::sample::select(Effect::ALL.to_vec()));
    // With profiles, and those alone.
    let profiles = prop::sample::select(vec![(false, false), (true, false), (true, true)]);
    (goal, needs, any::<bool>(), any::<bool>(), prop::bool::weighted(0.8), start, profiles, broken).prop_map(
        |(goal, needs, reboot, proves_boot, connection, start, (profiles, only), broken)| Case {
            goal,
            needs,
            reboot,
            proves_boot,
            connection,
            start,
            profiles,
            only,
            broken,
        },
    )
}

impl Case {
    fn begin(&self) -> (Attempt, World) {
        let mut one = attempt(self.goal);
        one.request.reboot = self.reboot;
        one.request.connection = self.connection;
        one.request.profiles = Profiles { all: if self.profiles { two() } else { vec![] }, only: self.only };
        let start = || self.start.clone();
        let world = World {
            running: old(),
            profile: start(),
            default: start(),
            once: None,
            others: [false; 2],
            start: start(),
            seen_well: false,
            connected: false,
            boots: 0,
            broken: self.broken,
        };
        (one, world)
    }
}

impl World {
    fn boot(&mut self) -> Event {
        self.boots += 1;
        self.running = self.once.take().unwrap_or_else(|| self.default.clone());
        self.seen_well = false;
        self.connected = false;
        Event::Booted { running: Some(self.running.clone()) }
    }

    /// Does what an attempt's effect is to do.
    fn perform(&mut self, attempt: &Attempt) {
        match attempt.effect() {
            Some(Effect::Switch) => {
                self.running = new();
                self.seen_well = false;
                self.connected = false;
            }
            // A test sets none of them.
            Some(Effect::Profiles) if attempt.request.goal != Goal::Test => self.others = [true; 2],
            Some(Effect::PrepareEntry) => self.once = Some(new()),
            Some(Effect::SetProfile) => self.profile = new(),
            Some(Effect::InstallBoot) => self.default = new(),
            Some(Effect::Revert) => {
                if attempt.committing {
                    self.profile = self.start.clone();
                    self.default = self.start.clone();
                }
                if attempt.entry {
                    self.once = None;
                }
                if attempt.switched {
                    self.running = old();
                }
                if attempt.profiled {
                    self.others = [false; 2];
                }
            }
            _ => {}
        }
    }

    /// Comes half-way with it: the profiles are set one after the other, and go back in the other order.
    fn begin_with(&mut self, attempt: &Attempt) {
        match attempt.effect() {
            Some(Effect::Profiles) if attempt.request.goal != Goal::Test => self.others[0] = true,
            Some(Effect::Revert) if attempt.profiled => self.others[1] = false,
            _ => {}
        }
    }

    fn checked(&self, case: &Case) -> Event {
        let before = Before {
            running: old(),
            specialisation: None,
            profile: Some(self.start.clone()),
            generation: Some(1),
            failed: BTreeSet::new(),
            profiles: Vec::new(),
        };
        let (needs, proves_boot) = (case.needs, case.proves_boot);
        let found = Checked { before, needs, proves_boot, wants_reboot: false, only_secrets: false };
        Event::Done(Found::Checked(Box::new(found)))
    }

    /// One turn: the effect of the attempt's state, with some luck.
    fn turn(&mut self, attempt: Attempt, case: &Case, luck: Luck) -> Attempt {
        let effect = attempt.effect();
        let failed = || Event::Failed(Cause::Failed { doing: Effect::Switch, why: "luck".into() });
        let event = match luck {
            Luck::Well | Luck::Fails { .. } if effect.is_some() && effect == self.broken => failed(),
            Luck::Well if effect == Some(Effect::Reboot) => self.boot(),
            Luck::Well => {
                self.perform(&attempt);
                match effect {
                    Some(Effect::Check) => self.checked(case),
                    Some(Effect::Probe) => {
                        self.seen_well = true;
                        healthy()
                    }
                    Some(Effect::Revert) => Event::Done(Found::Back { script_failed: false }),
                    _ => done(),
                }
            }
            Luck::Sick if effect == Some(Effect::Probe) => {
                self.seen_well = false;
                sick()
            }
            Luck::Refuses => Event::Refused(Refused::Locked),
            Luck::Fails { done } | Luck::Killed { done } | Luck::Cut { done } => {
                if done {
                    self.perform(&attempt);
                } else {
                    self.begin_with(&attempt);
                }
                match luck {
                    Luck::Cut { .. } => self.boot(),
                    Luck::Killed { .. } => Event::Resumed,
                    _ => failed(),
                }
            }
            Luck::Connected { stale } if attempt.wants_connection() => {
                self.connected = true;
                Event::Connected { stale }
            }
            Luck::Connected { .. } | Luck::Sick => return attempt,
            Luck::Silence if attempt.wants_connection() => Event::Silence,
            Luck::Silence => return attempt,
            Luck::Overdue => Event::Overdue,
        };
        attempt.on(event)
    }

    /// Whether what runs is the candidate, and was found well by all that is asked for, in this boot.
    fn is_proven(&self, case: &Case) -> bool {
        let runs = case.only || self.running == new();
        runs && self.seen_well && (self.connected || !case.connection)
    }
}

/// Where nothing goes wrong any more but what always does, and nobody comes to help either.
fn settle(world: &mut World, case: &Case, mut one: Attempt) -> Attempt {
    for _ in 0..60 {
        let before = one.state.clone();
        one = world.turn(one, case, Luck::Well);
        if one.state == before {
            one = world.turn(one, case, Luck::Silence);
        }
    }
    one
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_made_the_default_has_passed_its_probes(
        case in case(), lucks in prop::collection::vec(luck(), 0..60),
    ) {
        let (mut one, mut world) = case.begin();
        // The commit may be done again after a boot into what was proven.
        let mut proven = false;
        for luck in lucks {
            proven |= world.is_proven(&case);
            let commits = matches!(one.effect(), Some(Effect::SetProfile | Effect::InstallBoot));
            let asked_for_unproven = case.goal == Goal::Boot || case.needs == Needs::Init;
            prop_assert!(!commits || proven || asked_for_unproven, "{one:?} in {world:?}");
            one = world.turn(one, &case, luck);
            if matches!(one.state, State::Proving { .. }) && world.running != new() {
                proven = false;
            }
        }
    }

    #[test]
    fn it_always_ends_in_one_of_four_ways_and_the_machine_is_where_it_was_or_where_it_was_to_be(
        case in case(), lucks in prop::collection::vec(luck(), 0..60),
    ) {
        let (mut one, mut world) = case.begin();
        let cuts = lucks.iter().filter(|luck| matches!(luck, Luck::Cut { .. })).count();
        for luck in lucks {
            one = world.turn(one, &case, luck);
        }
        one = settle(&mut world, &case, one);
        let ending = one.ending().cloned();
        prop_assert!(ending.is_some(), "{one:?} in {world:?}");
        prop_assert!(usize::try_from(world.boots).unwrap() <= cuts + 12, "it reboots and reboots: {one:?}");
        if one.stuck.is_some() {
            // Going back has failed for good, and that is said.
            return Ok(());
        }
        prop_assert!(world.once.is_none(), "{one:?} in {world:?}");
        let committed = matches!(ending, Some(Ending::Committed { .. })) && case.goal != Goal::Test;
        prop_assert_eq!(world.others, [committed && case.profiles; 2], "{:?}", one);
        if case.only {
            prop_assert_eq!((&world.default, &world.profile), (&world.start, &world.start), "{:?}", one);
            prop_assert!(world.running == old() || world.boots > 0 && world.running == world.start);
            return Ok(());
        }
        match ending {
            Some(Ending::Committed { reboot, .. }) => {
                prop_assert!(
                    case.goal == Goal::Test || (world.default == new() && world.profile == new()),
                    "{one:?} in {world:?}"
                );
                prop_assert!(reboot || case.goal == Goal::Test || world.running == new(), "{one:?} in {world:?}");
            }
            Some(_) => {
                prop_assert_eq!(&world.default, &world.start, "{:?}", one);
                prop_assert_eq!(&world.profile, &world.start, "{:?}", one);
                prop_assert!(world.running == old() || world.boots > 0 && world.running == world.start, "{one:?} in {world:?}");
            }
            None => {}
        }
    }

    #[test]
    fn only_a_candidate_that_was_tried_is_blamed(
        case in case(), lucks in prop::collection::vec(luck(), 0..60),
    ) {
        let (mut one, mut world) = case.begin();
        let mut tried = false;
        for luck in lucks {
            one = world.turn(one, &case, luck);
            tried |= matches!(one.state, State::Switching | State::ActivatingProfiles | State::Rebooting { .. });
        }
        if let Some(Ending::Reverted { cause }) = settle(&mut world, &case, one).ending() {
            prop_assert!(tried, "{cause:?}");
            let innocent = matches!(cause, Cause::Interrupted { .. } | Cause::Failed { .. });
            prop_assert!(!innocent, "{cause:?}");
        }
    }

    #[test]
    fn no_event_in_any_state_breaks_what_is_written_down(
        case in case(), lucks in prop::collection::vec(luck(), 0..40),
    ) {
        let (mut one, mut world) = case.begin();
        for luck in lucks {
            one = world.turn(one, &case, luck);
            let text = serde_json::to_string(&one).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Attempt>(&text).unwrap(), &one);
        }
    }
}

use std::collections::BTreeSet;

use bosco_model::{FleetName, HostName, Profiles, StorePath};
use bosco_release::{
    Key, Late, Manifest, Opened, Policy, Refusal, Runs, Signer, SignerKind, Statement, Trust, Window,
};
use proptest::prelude::*;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn toplevel() -> StorePath {
    StorePath::parse(&format!("/nix/store/{}-nixos", "0".repeat(32))).unwrap()
}

fn opened(policy: Policy) -> Box<Opened> {
    let (fleet, key) = (FleetName::try_from("home".to_owned()).unwrap(), Key::parse(KEY).unwrap());
    let signer = Signer { name: "ada".into(), key, kind: SignerKind::Operator };
    let trust = Trust {
        version: 1,
        fleet: fleet.clone(),
        signers: vec![signer.clone()],
        hub: String::new(),
        hub_keys: Vec::new(),
    };
    let statement = Statement {
        fleet: fleet.clone(),
        number: 7,
        root: digest(0),
        hosts: 1,
        commit: None,
        made: 0,
        expires: 10,
        hub_builds: false,
    };
    let manifest = Manifest {
        fleet,
        host: HostName::try_from("web".to_owned()).unwrap(),
        keys: Vec::new(),
        number: 7,
        runs: Runs::System { toplevel: toplevel(), profiles: Profiles::default(), closure: digest(2) },
        secrets: None,
        tags: BTreeSet::new(),
        policy,
        trust,
        lifts: 0,
    };
    Box::new(Opened { statement, manifest, leaf: digest(1), signer })
}

prop_compose! {
    fn windows()(windows in prop::collection::vec(
        (prop::collection::vec(0_u8..7, 0..3), 0_u16..1440, 0_u16..1440), 0..2,
    )) -> Vec<Window> {
        windows.into_iter().map(|(days, from, to)| Window { days, from, to }).collect()
    }
}

prop_compose! {
    fn policies()(windows in windows(), on_battery: bool, on_metered: bool) -> Policy {
        Policy { interval: 900, windows, on_battery, on_metered }
    }
}

fn judgements() -> impl Strategy<Value = Option<Judged>> {
    let hold = Hold { number: 9, toplevel: toplevel(), profiles: Profiles::default() };
    (0..8_u8, policies()).prop_map(move |(which, policy)| match which {
        0 => None,
        1 => Some(Judged::Refused(Refusal::OtherFleet)),
        2 => Some(Judged::Held(opened(policy), hold.clone())),
        3 => Some(Judged::Late(opened(policy), Late::Expired)),
        _ => Some(Judged::Take(opened(policy))),
    })
}

fn states() -> impl Strategy<Value = Option<State>> {
    prop::sample::select(vec![
        None,
        Some(State::UpToDate),
        Some(State::RebootNeeded),
        Some(State::BootPending),
        Some(State::NotCommitted),
        Some(State::Updating),
        Some(State::Pending),
        Some(State::Reverted),
        Some(State::Inconclusive),
        Some(State::Unfit),
    ])
}

fn lasts() -> impl Strategy<Value = Option<Last>> {
    (0..4_u8, any::<bool>(), 0_u64..200, 0_u64..200).prop_map(|(which, same, since, wait)| {
        let leaf = digest(if same { 1 } else { 3 });
        match which {
            0 | 1 => None,
            2 => Some(Last { leaf, came: Came::Arrived }),
            _ => Some(Last { leaf, came: Came::Failed { failures: 1, since, wait, why: "x".into() } }),
        }
    })
}

prop_compose! {
    fn moments()(now in 0_u64..400, day in 0_u8..7, minute in 0_u16..1440, on_battery: bool, on_metered: bool) -> Moment {
        Moment { now, local: Local { day, minute }, on_battery, on_metered }
    }
}

fn nudges() -> impl Strategy<Value = Option<Nudge>> {
    prop::sample::select(vec![None, None, Some(Nudge::Local), Some(Nudge::Operator)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn it_goes_where_and_only_where_nothing_stands_against_it(
        judged in judgements(), state in states(), last in lasts(), moment in moments(), nudge in nudges(),
        in_quarantine: bool, is_held in prop::bool::weighted(0.2), connected in prop::bool::weighted(0.8),
    ) {
        let view = View {
            judged: judged.as_ref(),
            state,
            quarantined: in_quarantine.then_some("it broke"),
            held: is_held.then_some("ada: wait"),
            nudge,
            last: last.as_ref(),
            updated: 0,
            connected,
        };
        let decision = decide(&view, &moment);
        let elsewhere = matches!(
            state,
            Some(State::Pending | State::NotCommitted | State::Reverted | State::Inconclusive),
        );
        let operator = nudge == Some(Nudge::Operator);
        // Whatever anybody says.
        let may = elsewhere && !is_held && connected && (!in_quarantine || operator);
        let goes = match &judged {
            Some(Judged::Take(opened)) if may => {
                let policy = &opened.manifest.policy;
                let its_time = window::opens(&policy.windows, moment.local) == Some(0)
                    && (!moment.on_battery || policy.on_battery)
                    && (!moment.on_metered || policy.on_metered);
                let over = last.as_ref().filter(|last| last.leaf == opened.leaf).is_none_or(|last| match last.came {
                    Came::Arrived => false,
                    Came::Failed { since, wait, .. } => moment.now < since || moment.now >= since + wait,
                });
                nudge.is_some() || (its_time && over)
            }
            _ => false,
        };
        match decision {
            Decision::Go { again } => {
                prop_assert!(goes);
                prop_assert_eq!(again, operator);
            }
            Decision::Update => prop_assert!(false, "there is no flake of its own"),
            Decision::Stay { phase, why, until } => {
                prop_assert!(!goes);
                let settled = matches!(phase, Phase::Idle);
                prop_assert!(settled || why.is_some(), "who waits says why");
                prop_assert!(until.is_none_or(|until| until <= Duration::from_secs(8 * 24 * 3600)));
            }
        }
    }

    #[test]
    fn newer_inputs_are_looked_for_only_where_the_manifest_allows_it_and_nothing_else_is_to_do(
        state in states(), moment in moments(), nudge in nudges(), policy in policies(), updated in 0_u64..8000,
        now in 0_u64..8000, self_update: bool, is_held in prop::bool::weighted(0.2), connected in prop::bool::weighted(0.8),
    ) {
        let moment = Moment { now, ..moment };
        let mut opened = opened(policy);
        let (tree, closure) = (toplevel(), digest(2));
        opened.manifest.runs = Runs::Tree { tree, closure, self_update, reboot: false };
        let policy = opened.manifest.policy.clone();
        let judged = Judged::Take(opened);
        let view = View {
            judged: Some(&judged),
            state,
            quarantined: None,
            held: is_held.then_some("ada: wait"),
            nudge,
            last: None,
            updated,
            connected,
        };
        let decision = decide(&view, &moment);
        let its_time = not_now(&policy, &moment).is_none();
        let due = now < updated || now - updated >= policy.interval.max(UPDATE);
        let looks = state == Some(State::UpToDate) && self_update && !is_held && connected
            && (nudge.is_some() || (its_time && due));
        prop_assert_eq!(decision == Decision::Update, looks, "{:?}", decision);
        if let Decision::Stay { phase: Phase::Idle, until: Some(until), .. } = decision {
            prop_assert_eq!(until.as_secs(), policy.interval.max(UPDATE) - (now - updated));
        }
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_another_manifest_begins_anew(
        count in 1_u32..100, random: u64, now in 0_u64..1_000_000,
    ) {
        let mut last = None;
        for _ in 0..count {
            last = Some(Last::failed(last.as_ref(), digest(1), At::Activating, "x".into(), now, random));
        }
        let wait = |last: &Last| match last.came {
            Came::Failed { wait, failures, .. } => (wait, failures),
            Came::Arrived => (0, 0),
        };
        let one = wait(last.as_ref().unwrap());
        let next = wait(&Last::failed(last.as_ref(), digest(1), At::Activating, "x".into(), now, random));
        prop_assert!(next.0 >= one.0 && next.1 >= one.1 && next.1 <= MOST_FAILURES);
        let other = wait(&Last::failed(last.as_ref(), digest(3), At::Activating, "x".into(), now, random));
        prop_assert_eq!(other.1, 1);
    }
}

#[test]
fn only_what_does_not_happen_by_accident_is_an_alarm() {
    use bosco_release::Unsealed;
    let policy = Policy::default;
    assert!(alarm(&Judged::Late(opened(policy()), Late::Expired)).is_some());
    assert!(alarm(&Judged::Refused(Refusal::Forked(3))).is_some());
    assert_eq!(alarm(&Judged::Refused(Refusal::Unsealed(Unsealed::Stranger("x".into())))), None);
    assert_eq!(alarm(&Judged::Take(opened(policy()))), None);
}

#[test]
fn what_lies_between_two_runs_is_learned_and_outlives_one_by_hand() {
    let ticked = |before: Timer, later: u64| Timer::ticked(Some(before), before.came + later);
    let first = Timer::ticked(None, 1_000_000);
    assert_eq!(first.every, 86400, "nothing is known");
    let hourly = (0..10).fold(first, |timer, _| ticked(timer, 3600));
    assert_eq!(hourly.every, 3600);
    assert_eq!(ticked(ticked(hourly, 5), 3595).every, 3595);
    assert_eq!(ticked(hourly, 3600 * 24 * 365).every, 7 * 86400);
    assert!(Timer::ticked(Some(hourly), 0).every >= 1800, "a clock that was set back");
}

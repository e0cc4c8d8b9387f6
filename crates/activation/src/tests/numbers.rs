//! Push and pull do not undo each other: one host, to which many come, one after the other, with all sorts of luck.

use bosco_model::{HIGHEST, Hold, Profiles, next_number};

use super::*;

/// Who comes to the host.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// An operator, who has looked at it before, so many numbers ago.
    Pushes { ago: u64 },
    /// Its agent, with a release by its number, and which holds that contains.
    Pulls { number: u64, lifts: u64 },
    /// Somebody who does not count.
    Uncounted,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        2 => (0..3_u64).prop_map(|ago| Who::Pushes { ago }),
        3 => (1..8_u64, 0..8_u64).prop_map(|(number, lifts)| Who::Pulls { number, lifts }),
        1 => Just(Who::Uncounted),
    ]
}

fn request_of(who: Who, journal: &Journal, mut request: Request) -> Request {
    (request.number, request.hold, request.lifts) = match who {
        Who::Pushes { ago } => (next_number(journal.number.saturating_sub(ago)), true, 0),
        Who::Pulls { number, lifts } => (number, false, lifts),
        Who::Uncounted => (0, false, 0),
    };
    // What failed may be tried again.
    request.again = true;
    request
}

/// What becomes of a journal whose request is carried out, as the hands do it.
fn carried_out(journal: &Journal, case: &Case, who: Who, toplevel: StorePath, lucks: &[Luck]) -> Journal {
    let (mut one, mut world) = case.begin();
    one.request = request_of(who, journal, one.request);
    let refusal = journal.refusal(&one.request);
    let mut journal = journal.clone();
    if let Some(why) = refusal {
        one.request.toplevel = toplevel;
        one.state = State::Ended { ending: Ending::Refused { why } };
    } else {
        for luck in lucks {
            one = world.turn(one, case, *luck);
        }
        one = settle(&mut world, case, one);
        // The world knows one candidate only, which is told apart here.
        one.request.toplevel = toplevel;
    }
    journal.attempt = Some(one);
    journal.close(1);
    journal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn numbers_never_go_back_and_holds_come_and_go_with_commits_only(
        comers in prop::collection::vec((case(), who(), 1..5_u8, prop::collection::vec(luck(), 0..20)), 1..12),
        lifted in prop::collection::vec(prop::option::weighted(0.1, 0..8_u64), 12),
    ) {
        let mut journal = Journal::default();
        for ((case, who, system, lucks), lifted) in comers.into_iter().zip(lifted) {
            if let Some(number) = lifted {
                let (was, held) = (journal.number, journal.hold.clone());
                let came = journal.lift(number);
                prop_assert_eq!(came.is_some(), held.as_ref().is_some_and(|hold| hold.number <= number));
                prop_assert_eq!(journal.hold.is_some(), held.is_some() && came.is_none());
                prop_assert_eq!(journal.number, was, "what is let go is still counted");
            }
            let toplevel = path(system);
            let after = carried_out(&journal, &case, who, toplevel.clone(), &lucks);
            let request = after.attempt.as_ref().unwrap().request.clone();
            let ending = after.attempt.as_ref().unwrap().ending().cloned().unwrap();
            prop_assert!(after.number >= journal.number, "{who:?} has set {journal:?} back to {after:?}");
            let lasts = matches!(ending, Ending::Committed { .. }) && case.goal != Goal::Test;
            if !lasts || matches!(who, Who::Uncounted) {
                prop_assert_eq!((after.number, &after.hold), (journal.number, &journal.hold), "{:?}", ending);
            } else if request.hold {
                let before = journal.hold.clone().filter(|_| case.only);
                let system = before.as_ref().filter(|hold| !hold.profiles.only).map(|hold| hold.toplevel.clone());
                let only = before.map_or(case.only, |hold| hold.profiles.only);
                let profiles = Profiles { all: request.profiles.all.clone(), only };
                let toplevel = system.unwrap_or(toplevel);
                let hold = Hold { number: request.number, toplevel, profiles };
                prop_assert_eq!((after.number, after.hold.clone()), (request.number, Some(hold)));
            } else {
                prop_assert_eq!((after.number, &after.hold), (request.number, &None));
                prop_assert!(request.number >= journal.number, "an older one was taken");
                let held = journal.hold.as_ref();
                prop_assert!(held.is_none_or(|hold| hold.number < request.number), "{held:?} was undone by {request:?}");
            }
            prop_assert!(after.hold.as_ref().is_none_or(|hold| hold.number <= after.number));
            journal = after;
        }
    }

    #[test]
    fn a_hold_and_a_number_are_the_same_after_a_crash_and_for_another_version(
        number in 0..=HIGHEST, held in prop::option::of((0..=HIGHEST, 0..5_u8)),
    ) {
        let hold = held.map(|(number, system)| Hold { number, toplevel: path(system), profiles: Profiles::default() });
        let journal = Journal { number, hold, attempt: Some(attempt(Goal::Switch)), ..Journal::default() };
        let text = serde_json::to_string(&journal).unwrap();
        prop_assert_eq!(&Journal::read(text.as_bytes()).unwrap().0, &journal);
        let (other, _) = Journal::read(text.replace("checking", "dancing").as_bytes()).unwrap();
        prop_assert_eq!((other.number, other.hold), (journal.number, journal.hold));
    }
}

fn asked(number: u64, hold: bool, lifts: u64) -> Request {
    Request { number, hold, lifts, ..attempt(Goal::Switch).request }
}

#[test]
fn what_is_older_is_refused_and_what_is_tried_again_is_not() {
    let journal = Journal { number: 7, ..Journal::default() };
    for hold in [true, false] {
        assert_eq!(journal.refusal(&asked(6, hold, 0)), Some(Refused::Older { number: 6, highest: 7 }));
        assert_eq!(journal.refusal(&asked(7, hold, 0)), None, "it is tried again");
        assert_eq!(journal.refusal(&asked(8, hold, 0)), None);
    }
    assert_eq!(journal.refusal(&asked(0, false, 0)), None, "it is not counted");
}

#[test]
fn what_is_pulled_does_not_undo_a_push_that_it_does_not_contain() {
    let pushed = path(9);
    let hold = Some(Hold { number: 7, toplevel: pushed.clone(), profiles: Profiles::default() });
    let journal = Journal { number: 7, hold, ..Journal::default() };
    let refused = Some(Refused::Held { number: 7, toplevel: pushed.clone() });
    assert_eq!(journal.refusal(&asked(8, false, 6)), refused);
    assert_eq!(journal.refusal(&asked(7, false, 7)), refused, "it was made before the push");
    assert_eq!(journal.refusal(&asked(8, false, 7)), None);
    assert_eq!(journal.refusal(&Request { toplevel: pushed, ..asked(8, false, 0) }), None);
    assert_eq!(journal.refusal(&asked(8, true, 0)), None, "another push");
}

#[test]
fn a_journal_from_before_there_were_numbers_is_read() {
    let old = r#"{"attempt":null,"boot":"x","ended":1,"quarantine":[],"interrupted":[]}"#;
    let (journal, unread) = Journal::read(old.as_bytes()).unwrap();
    assert_eq!((journal.number, journal.hold, unread), (0, None, Unread::Nothing));
    let request =
        r#"{"id":"1","goal":"switch","toplevel":"/nix/store/00000000000000000000000000000000-x","by":"ada"}"#;
    let request: Request = serde_json::from_str(request).unwrap();
    assert_eq!((request.number, request.hold, request.lifts), (0, false, 0));
}

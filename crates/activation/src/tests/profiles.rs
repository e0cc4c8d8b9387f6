//! Profiles beside the system: when they are activated, and what becomes of them.

use super::*;

#[test]
fn other_profiles_follow_the_system_and_are_proven_with_it() {
    use Effect::{Arm, Check, Disarm, InstallBoot, Probe, Profiles, Root, SetProfile, Switch, Sync};
    let mut asked = attempt(Goal::Switch);
    asked.request.profiles.all = two();
    let ready = vec![checked(Needs::Nothing), done(), done(), done()];
    let well = vec![done(), done(), CONNECTED, healthy(), done(), done(), done()];
    let (came, ending) = effects(asked.clone(), [ready.clone(), well].concat());
    assert_eq!(came, [Check, Root, Sync, Arm, Switch, Profiles, Probe, SetProfile, InstallBoot, Disarm]);
    assert_eq!(ending, Some(Ending::Committed { reboot: false, proven: true }));

    let why = || Cause::Profile { profile: "app".into(), why: "no".into() };
    let (came, ending) =
        effects(asked.clone(), [ready.clone(), vec![done(), Event::Failed(why()), done(), done()]].concat());
    assert_eq!(came[5..], [Profiles, Effect::Revert, Disarm]);
    assert_eq!(ending, Some(Ending::Reverted { cause: why() }));
    let back = Event::Done(Found::Back { script_failed: true });
    let events = [ready.clone(), vec![done(), Event::Failed(why()), back, done()]].concat();
    let (_, ending) = effects(asked.clone(), events);
    assert_eq!(ending, Some(Ending::Inconclusive { cause: why() }), "the old one fails as well");

    asked.request.profiles.only = true;
    let well = vec![done(), CONNECTED, healthy(), done()];
    let (came, ending) = effects(asked, [ready, well].concat());
    assert_eq!(came, [Check, Root, Sync, Arm, Profiles, Probe, Disarm]);
    assert_eq!(ending, Some(Ending::Committed { reboot: false, proven: true }));
}

#[test]
fn what_failed_with_one_profile_may_be_tried_with_another() {
    let ending = Ending::Reverted { cause: Cause::Profile { profile: "app".into(), why: "no".into() } };
    let mut failed = attempt(Goal::Switch);
    failed.request.profiles.all = two();
    failed.state = State::Ended { ending };
    let mut journal = Journal { attempt: Some(failed.clone()), ..Journal::default() };
    journal.close(1);
    assert!(matches!(journal.refusal(&failed.request), Some(Refused::Quarantined { .. })));
    failed.request.profiles.all[1].path = path(5);
    assert_eq!(journal.refusal(&failed.request), None);
}

/// What has come of a push of that.
fn pushed(journal: &Journal, number: u64, toplevel: StorePath, profiles: Profiles) -> Journal {
    let mut one = attempt(Goal::Switch);
    one.request = Request { number, hold: true, toplevel, profiles, ..one.request };
    one.state = State::Ended { ending: Ending::Committed { reboot: false, proven: true } };
    let mut after = Journal { attempt: Some(one), ..journal.clone() };
    after.close(1);
    after
}

#[test]
fn what_is_pulled_undoes_no_profile_that_was_pushed() {
    let all = two();
    let new = ProfileAt { path: path(5), ..all[1].clone() };
    let whole = pushed(&Journal::default(), 7, path(9), Profiles { all: all.clone(), only: false });
    // One of them goes elsewhere by itself: what was pushed before holds as well.
    let alone = Profiles { all: vec![new.clone()], only: true };
    let after = pushed(&whole, 8, new.path.clone(), alone.clone());
    let pull = |journal: &Journal, toplevel, all: &[ProfileAt]| {
        let profiles = Profiles { all: all.to_vec(), only: false };
        journal.refusal(&Request { number: 9, toplevel, profiles, ..attempt(Goal::Switch).request })
    };
    assert_eq!(pull(&whole, path(9), &all), None);
    assert_eq!(pull(&after, path(9), &[all[0].clone(), new.clone()]), None);
    for (journal, system, profiles) in [
        (&whole, 9, vec![all[0].clone(), new.clone()]),
        (&whole, 9, vec![]),
        (&after, 9, all.clone()),
        (&after, 8, vec![all[0].clone(), new.clone()]),
        (&after, 9, vec![new.clone()]),
    ] {
        let refused = pull(journal, path(system), &profiles);
        assert!(matches!(refused, Some(Refused::Held { .. })), "{refused:?}: {system}, {profiles:?}");
    }
    // Without anything before, it is all that holds.
    let only = pushed(&Journal::default(), 8, new.path.clone(), alone);
    assert_eq!(pull(&only, path(9), &[new]), None);
    assert!(pull(&only, path(9), &all).is_some());
}

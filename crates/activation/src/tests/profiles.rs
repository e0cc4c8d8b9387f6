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

//! How a host stands, from what it has said and what it should run. Pure.

use bosco_model::{Activity, ActivityStage, HostName, Observed, Profiles, State, StorePath};
use bosco_release::{Digest, MAX_PROFILES, Number};
use bosco_wire::api::{HostLine, Phase, Standing};

/// The longest text that a host's own words may have, in characters.
const WORDS: usize = 2000;
/// The same of what is compared and not shown: a kernel's parameters have room in it.
const FACT: usize = 8000;
/// How many things of one kind it may name.
const MOST: usize = 20;

/// What a timer may lie apart at most, in seconds; and how late a host that comes by one may be.
const LONGEST_RHYTHM: u64 = 7 * 24 * 3600;
const LATE: u64 = 600;

/// What a host says of itself is kept, and shown to people: it is cleaned, and capped.
pub(crate) fn cleaned(mut standing: Standing) -> Standing {
    let Standing { observed, why, hold, alarms, version, .. } = &mut standing;
    let Observed { system, boot, specialisation, activity, unprotected, quarantined, .. } = observed;
    for text in [why, system, boot, specialisation].into_iter().flatten().chain([version]) {
        clean(text, WORDS);
    }
    if let Some(Activity { by, words, log, .. }) = activity {
        [by, words, log].into_iter().for_each(|text| clean(text, WORDS));
    }
    for texts in [alarms, unprotected] {
        clean_all(texts, WORDS);
    }
    observed.profiles.truncate(MAX_PROFILES);
    for hold in [&mut observed.hold, hold].into_iter().flatten() {
        hold.profiles.all.truncate(MAX_PROFILES);
    }
    while quarantined.len() > MOST {
        quarantined.pop_last();
    }
    quarantined.values_mut().for_each(|text| clean(text, WORDS));
    for kernel in [&mut observed.booted_kernel, &mut observed.current_kernel] {
        clean_all(&mut kernel.0, FACT);
    }
    standing
}

fn clean_all(texts: &mut Vec<String>, longest: usize) {
    texts.truncate(MOST);
    texts.iter_mut().for_each(|text| clean(text, longest));
}

fn clean(text: &mut String, longest: usize) {
    // What turns the direction of writing around makes a word look like another one.
    let is_shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    *text = text.chars().filter(is_shown).take(longest).collect();
}

/// What the hub knows of a host.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) host: &'a HostName,
    /// What it should run; of a host that gets profiles only, the first one's path.
    pub(crate) should: Option<&'a StorePath>,
    /// What it should have beside its system, or alone.
    pub(crate) profiles: &'a Profiles,
    /// The bundle of secrets that it should have.
    pub(crate) secrets: Option<Digest>,
    pub(crate) standing: Option<&'a Standing>,
    pub(crate) connected: bool,
    pub(crate) seen: Option<u64>,
    /// Now, in seconds since 1970.
    pub(crate) now: u64,
    /// Who told it to stay as it is.
    pub(crate) held: Option<&'a str>,
    /// What is wrong with its key.
    pub(crate) alarm: Option<&'a str>,
    /// The newest release, where it has the host.
    pub(crate) newest: Option<Number>,
}

/// How a host stands.
pub(crate) fn line(facts: &Facts<'_>) -> HostLine {
    let state = state(facts);
    let observed = facts.standing.map(|standing| &standing.observed);
    let runs = observed.and_then(|observed| runs(facts, observed).cloned());
    let last = observed.and_then(|observed| observed.activity.as_ref());
    // The release that it has come to by itself; or by hand, where what it runs is that of the newest.
    let brought = facts.standing.and_then(|standing| standing.brought.as_ref());
    let brought = brought.filter(|brought| Some(&brought.toplevel) == runs.as_ref());
    let has_profiles = observed.is_none_or(|observed| facts.profiles.are_in(&observed.profiles));
    let has_all = has_profiles && observed.is_none_or(|observed| has_secrets(facts, observed));
    let is_there = runs.is_some() && runs.as_ref() == facts.should && has_all;
    // Whose profile was changed since does not run that release any more.
    let was_there = brought.filter(|brought| has_profiles || Some(brought.number) != facts.newest);
    let release = if is_there { facts.newest } else { was_there.map(|brought| brought.number) };
    let committed =
        last.filter(|last| last.stage == ActivityStage::Committed && Some(&last.toplevel) == runs.as_ref());
    let alarms = facts.standing.iter().flat_map(|standing| &standing.alarms).cloned();
    HostLine {
        host: facts.host.clone(),
        state,
        should: facts.should.cloned(),
        since: committed.map(|last| last.since).or(brought.map(|brought| brought.since)),
        runs,
        release,
        commit: None,
        connected: facts.connected,
        seen: facts.seen,
        reason: reason(facts, state, last),
        alarms: facts.alarm.map(str::to_owned).into_iter().chain(alarms).collect(),
    }
}

fn state(facts: &Facts<'_>) -> State {
    let Some(standing) = facts.standing else { return State::New };
    if !facts.connected && !is_between_runs(facts, standing) {
        return State::Offline;
    }
    let observed = &standing.observed;
    if observed.activating || matches!(standing.phase, Phase::Fetching | Phase::Building | Phase::Activating)
    {
        return State::Updating;
    }
    let stands = match (facts.should, facts.newest) {
        (Some(should), _) => {
            State::with_secrets(should, facts.profiles, has_secrets(facts, observed), observed)
        }
        // It has not built itself yet.
        (None, Some(_)) => State::unbuilt(observed),
        // No release has it: it is what it is.
        (None, None) => return State::New,
    };
    match stands {
        there @ (State::UpToDate | State::RebootNeeded | State::NotCommitted | State::BootPending) => there,
        _ if facts.held.is_some() || standing.hold.is_some() => State::Held,
        tried @ (State::Reverted | State::Quarantined) => tried,
        _ if standing.phase == Phase::Backoff => State::Failing,
        tried @ State::Inconclusive => tried,
        State::Pending if facts.should.is_some_and(|should| drifted(facts, should, standing)) => {
            State::Drifted
        }
        other => other,
    }
}

/// What it runs; where it gets profiles only, what the first of them names.
fn runs<'a>(facts: &Facts<'_>, observed: &'a Observed) -> Option<&'a StorePath> {
    facts.profiles.known_by(observed.current.as_ref(), &observed.profiles)
}

/// Whether it has the secrets that it should have.
fn has_secrets(facts: &Facts<'_>, observed: &Observed) -> bool {
    bosco_secrets::wanted(facts.secrets, observed.secrets) == observed.secrets
}

/// Whether it comes by a timer, and may come still: one run may fail, and it takes its time.
fn is_between_runs(facts: &Facts<'_>, standing: &Standing) -> bool {
    let Some((rhythm, seen)) = standing.rhythm.zip(facts.seen) else { return false };
    facts.now <= seen.saturating_add(2 * rhythm.min(LONGEST_RHYTHM)).saturating_add(LATE)
}

/// Whether it was there already, and something else has been brought in since by nobody that bosco knows.
fn drifted(facts: &Facts<'_>, should: &StorePath, standing: &Standing) -> bool {
    let Standing { observed, brought, .. } = standing;
    let last = observed.activity.as_ref().filter(|_| runs(facts, observed) != Some(should));
    let was_system =
        last.is_some_and(|last| last.stage == ActivityStage::Committed && last.toplevel == *should);
    // The same system may have come with other profiles before.
    let was_newest = brought.as_ref().is_some_and(|brought| Some(brought.number) == facts.newest);
    if facts.profiles.is_empty() { was_system } else { was_newest }
}

fn reason(facts: &Facts<'_>, state: State, last: Option<&Activity>) -> Option<String> {
    let said = || facts.standing.and_then(|standing| standing.why.clone());
    let held = || facts.held.map(|held| format!("held by {held}"));
    match state {
        // Said also while there is nothing newer that it could take.
        State::UpToDate | State::Offline => held().or_else(said),
        State::Held => held().or_else(said).or_else(|| {
            let hold = facts.standing?.hold.as_ref()?;
            Some(format!("it stays where it was brought to by hand ({})", hold.toplevel.name()))
        }),
        State::Reverted | State::Quarantined | State::Inconclusive | State::Failing => {
            said().or_else(|| last.map(|last| last.words.clone()))
        }
        State::New if facts.standing.is_some() => Some("no release has it".into()),
        State::New => Some("it has not been heard yet".into()),
        State::Drifted => Some("it runs something that no release and no push has brought".into()),
        State::RebootNeeded => Some("its kernel, initrd, modules or kernel parameters are older".into()),
        _ => said(),
    }
}

#[cfg(test)]
mod tests {
    use bosco_model::{Profile, ProfileAt, ProfileName, UserName};
    use bosco_wire::api::Brought;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_that_has_other_secrets_than_the_newest_release_is_not_there_and_has_not_drifted() {
        let host = HostName::parse("web").unwrap();
        let should = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let [old, new] = ["old", "new"].map(|text| Digest::of(&[text.as_bytes()]));
        let last = Activity {
            toplevel: should.clone(),
            by: "agent".into(),
            since: 7,
            stage: ActivityStage::Committed,
            words: String::new(),
            log: String::new(),
        };
        let observed = Observed {
            nixos: true,
            nix: true,
            current: Some(should.clone()),
            profile: Some(should.clone()),
            activity: Some(last),
            secrets: Some(old),
            ..Observed::default()
        };
        let brought = Some(Brought { number: 3, toplevel: should.clone(), since: 7 });
        let standing = Standing { observed, brought, ..Standing::default() };
        for (secrets, state, release) in [
            (Some(old), State::UpToDate, 4),
            (Some(new), State::Pending, 3),
            // They are to go.
            (None, State::Pending, 3),
        ] {
            let facts = |held| Facts {
                host: &host,
                should: Some(&should),
                profiles: Profiles::NONE,
                secrets,
                standing: Some(&standing),
                connected: true,
                seen: Some(0),
                now: 0,
                held,
                alarm: None,
                newest: Some(4),
            };
            // That it is told to stay is seen before a release passes it by.
            assert_eq!(line(&facts(Some("ada: a demo"))).reason.as_deref(), Some("held by ada: a demo"));
            let line = line(&facts(None));
            assert_eq!((line.state, line.release), (state, Some(release)), "{secrets:?}");
        }
    }

    #[test]
    fn a_host_that_lacks_a_profile_is_not_there_and_has_drifted_only_where_it_had_it() {
        let host = HostName::parse("web").unwrap();
        let path = |name: &str| StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let home = |to: &str| ProfileAt {
            profile: Profile {
                name: ProfileName::parse("home").unwrap(),
                user: UserName::parse("ada").unwrap(),
                place: None,
            },
            path: path(to),
        };
        // The release that it has come to, and what its profile is; 4 is the newest.
        for (only, came_to, has, state, release) in [
            (false, 4, "new", State::UpToDate, Some(4)),
            (false, 3, "old", State::Pending, Some(3)),
            (false, 4, "old", State::Drifted, None),
            (true, 4, "new", State::UpToDate, Some(4)),
            (true, 4, "old", State::Drifted, None),
        ] {
            let should = if only { path("new") } else { path("system") };
            let observed = Observed {
                nixos: true,
                nix: true,
                current: Some(path("system")),
                profile: Some(path("system")),
                profiles: vec![home(has)],
                ..Observed::default()
            };
            let brought = Brought { number: came_to, toplevel: should.clone(), since: 7 };
            let standing = Standing { observed, brought: Some(brought), ..Standing::default() };
            let line = line(&Facts {
                host: &host,
                should: Some(&should),
                profiles: &Profiles { all: vec![home("new")], only },
                secrets: None,
                standing: Some(&standing),
                connected: true,
                seen: Some(0),
                now: 0,
                held: None,
                alarm: None,
                newest: Some(4),
            });
            assert_eq!((line.state, line.release), (state, release), "{only} {came_to} {has}");
            assert_eq!(line.runs, Some(if only { path(has) } else { path("system") }));
        }
    }

    proptest! {
        #[test]
        fn a_host_on_a_timer_is_offline_once_it_has_missed_two_runs(rhythm: u64, seen in 0..u64::MAX / 2, later: u32) {
            let host = HostName::parse("web").unwrap();
            let standing = |rhythm| Standing { rhythm, ..Standing::default() };
            let state = |standing: &Standing, connected, now| {
                let standing = Some(standing);
                let seen = Some(seen);
                let host = &host;
                let facts = Facts {
                    host, should: None, profiles: Profiles::NONE, secrets: None, standing, connected, seen, now, held: None, alarm: None, newest: None,
                };
                state(&facts)
            };
            let now = seen + u64::from(later);
            prop_assert_eq!(state(&standing(None), false, now), State::Offline);
            prop_assert_ne!(state(&standing(None), true, now), State::Offline);
            let is_late = u64::from(later) > 2 * rhythm.min(LONGEST_RHYTHM) + LATE;
            prop_assert_eq!(state(&standing(Some(rhythm)), false, now) == State::Offline, is_late);
            prop_assert_eq!(state(&standing(Some(3600)), false, seen + 7800) == State::Offline, false);
            prop_assert_eq!(state(&standing(Some(3600)), false, seen + 7801), State::Offline);
        }
    }
}

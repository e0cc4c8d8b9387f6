//! How a host stands to what it should run.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ActivityStage, HostName, Observed, Profiles, StorePath};

/// How a host stands to what it should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs it, and will after a boot.
    UpToDate,
    /// It runs it, but another system will come back at the next boot.
    NotCommitted,
    /// It will run it after a boot.
    BootPending,
    /// It runs it but for what only a reboot brings in: kernel, initrd or modules.
    RebootNeeded,
    /// It is at work on a candidate just now.
    Updating,
    /// It runs something else.
    Pending,
    /// It was given it, which did not hold, and runs what it ran before.
    Reverted,
    /// It was given it, and runs what it ran before; nobody knows whose fault that was.
    Inconclusive,
    /// What it should run has failed there, and is not tried again.
    Quarantined,
    /// It could not be asked.
    Offline,
    /// It could be reached, and does not let bosco in, or is not the machine that it should be.
    NoAccess,
    /// It could be asked, but can't be deployed: it is not NixOS, or has no Nix.
    Unfit,
    /// It is deployed on itself only.
    LocalOnly,
    /// What it should run can't be said: its configuration does not evaluate.
    NotEvaluated,
    /// It has never said anything.
    New,
    /// It stays where somebody has brought it to by hand, or told it to stay.
    Held,
    /// It tries, and does not get there.
    Failing,
    /// It runs something that neither its manifest nor a push has brought there.
    Drifted,
}

impl State {
    /// The words for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::UpToDate => "up to date",
            Self::NotCommitted => "not committed",
            Self::BootPending => "boot pending",
            Self::RebootNeeded => "reboot needed",
            Self::Updating => "updating",
            Self::Pending => "pending",
            Self::Reverted => "reverted",
            Self::Inconclusive => "inconclusive",
            Self::Quarantined => "quarantined",
            Self::Offline => "offline",
            Self::NoAccess => "no access",
            Self::Unfit => "unfit",
            Self::LocalOnly => "local only",
            Self::NotEvaluated => "not evaluated",
            Self::New => "new",
            Self::Held => "held",
            Self::Failing => "failing",
            Self::Drifted => "drifted",
        }
    }

    /// The state of a host that answered, and has not built yet what it should run.
    #[must_use]
    pub fn unbuilt(observed: &Observed) -> Self {
        if observed.unfit().is_some() {
            Self::Unfit
        } else if observed.activating {
            Self::Updating
        } else {
            Self::Pending
        }
    }

    /// The state of a host that answered, to what it should run with the secrets that it should have. Where it runs that, and has
    /// others, it is not there yet.
    #[must_use]
    pub fn with_secrets(
        should: &StorePath,
        profiles: &Profiles,
        has_secrets: bool,
        observed: &Observed,
    ) -> Self {
        let state = Self::with(should, profiles, observed);
        let there =
            matches!(state, Self::UpToDate | Self::NotCommitted | Self::RebootNeeded | Self::BootPending);
        if has_secrets || !there {
            return state;
        }
        let last = observed.activity.as_ref().filter(|last| last.toplevel == *should).map(|last| last.stage);
        match last {
            Some(ActivityStage::Reverted) => Self::Reverted,
            Some(ActivityStage::Inconclusive | ActivityStage::Open) => Self::Inconclusive,
            _ => Self::Pending,
        }
    }

    /// The state of a host that answered, and is to have no profiles beside its system.
    #[must_use]
    pub fn of(should: &StorePath, observed: &Observed) -> Self {
        Self::with(should, &Profiles::default(), observed)
    }

    /// The state of a host that answered.
    #[must_use]
    pub fn with(should: &StorePath, profiles: &Profiles, observed: &Observed) -> Self {
        // One that lacks a profile has not got there, whatever its system is.
        let has_profiles = profiles.are_in(&observed.profiles);
        let runs = has_profiles && (profiles.only || observed.current.as_ref() == Some(should));
        let last = observed.activity.as_ref().filter(|last| last.toplevel == *should).map(|last| last.stage);
        // Where the boot loader does not say, the profile does, unless its commit has never ended.
        let boots = match &observed.boots {
            _ if !has_profiles || profiles.only => has_profiles && last != Some(ActivityStage::Open),
            Some(boots) => boots == should && observed.profile.as_ref() == Some(should),
            None => observed.profile.as_ref() == Some(should) && last != Some(ActivityStage::Open),
        };
        if observed.unfit().is_some() {
            Self::Unfit
        } else if observed.activating {
            Self::Updating
        } else if runs && boots && (profiles.only || observed.booted_kernel == observed.current_kernel) {
            Self::UpToDate
        } else if runs && boots {
            Self::RebootNeeded
        } else if runs {
            Self::NotCommitted
        } else if boots {
            Self::BootPending
        } else if last == Some(ActivityStage::Reverted) {
            Self::Reverted
        } else if observed.quarantined.contains_key(should) {
            Self::Quarantined
        } else if matches!(last, Some(ActivityStage::Inconclusive | ActivityStage::Open)) {
            Self::Inconclusive
        } else {
            Self::Pending
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// Why nothing can be deployed to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// There is no Nix.
    #[error("no Nix was found there")]
    NoNix,
    /// It is another distribution.
    #[error("it is not NixOS")]
    NotNixos,
}

impl Observed {
    /// Why nothing can be deployed there, if so.
    #[must_use]
    pub fn unfit(&self) -> Option<Unfit> {
        if !self.nix {
            Some(Unfit::NoNix)
        } else if !self.nixos {
            Some(Unfit::NotNixos)
        } else {
            None
        }
    }
}

/// One line of a fleet's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The host.
    pub host: HostName,
    /// How it stands.
    pub state: State,
    /// What it should run, where that can be said.
    pub should: Option<StorePath>,
    /// What it said, where it could be asked.
    pub observed: Option<Observed>,
    /// Why it is in that state, where that needs saying.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activity, Kernel, Profile, ProfileAt, ProfileName, UserName};

    const NEW: &str = "/nix/store/10s5j3mfdg22k1597x580qrhprnzcjwb-nixos-system-new";
    const OLD: &str = "/nix/store/00s5j3mfdg22k1597x580qrhprnzcjwb-nixos-system-old";

    fn path(text: &str) -> StorePath {
        StorePath::parse(text).unwrap()
    }

    fn activity(toplevel: &str, stage: ActivityStage) -> Activity {
        let (by, words, log) = ("ada".into(), String::new(), String::new());
        Activity { toplevel: path(toplevel), by, since: 0, stage, words, log }
    }

    fn observed(current: &str, profile: &str) -> Observed {
        Observed {
            nixos: true,
            nix: true,
            current: Some(path(current)),
            profile: Some(path(profile)),
            ..Observed::default()
        }
    }

    #[test]
    fn what_runs_and_what_boots_make_the_state() {
        for (current, profile, state) in [
            (NEW, NEW, State::UpToDate),
            (NEW, OLD, State::NotCommitted),
            (OLD, NEW, State::BootPending),
            (OLD, OLD, State::Pending),
        ] {
            assert_eq!(State::of(&path(NEW), &observed(current, profile)), state);
        }
    }

    #[test]
    fn a_commit_that_did_not_end_is_not_up_to_date() {
        let open = |toplevel| Some(activity(toplevel, ActivityStage::Open));
        let seen = Observed { activity: open(NEW), ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &seen), State::NotCommitted);
        let other = Observed { activity: open(OLD), ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &other), State::UpToDate, "an older attempt has no say");
        let told = Observed { boots: Some(path(OLD)), ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &told), State::NotCommitted, "the boot loader knows better");
    }

    #[test]
    fn a_host_with_other_secrets_is_not_there_yet() {
        let with = |has, seen: &Observed| State::with_secrets(&path(NEW), &Profiles::default(), has, seen);
        let there = observed(NEW, NEW);
        assert_eq!((with(true, &there), with(false, &there)), (State::UpToDate, State::Pending));
        let tried = |stage| Observed { activity: Some(activity(NEW, stage)), ..observed(NEW, NEW) };
        assert_eq!(with(false, &tried(ActivityStage::Committed)), State::Pending);
        assert_eq!(with(false, &tried(ActivityStage::Reverted)), State::Reverted, "it was to get them");
        assert_eq!(with(false, &tried(ActivityStage::Open)), State::Inconclusive);
        assert_eq!(with(false, &observed(OLD, OLD)), State::Pending);
        assert_eq!(with(false, &Observed { activating: true, ..there }), State::Updating);
    }

    #[test]
    fn what_came_of_the_last_activation_is_part_of_the_state() {
        for (stage, state) in [
            (ActivityStage::Reverted, State::Reverted),
            (ActivityStage::Inconclusive, State::Inconclusive),
            (ActivityStage::Refused, State::Pending),
        ] {
            let seen = Observed { activity: Some(activity(NEW, stage)), ..observed(OLD, OLD) };
            assert_eq!(State::of(&path(NEW), &seen), state);
            let other = Observed { activity: Some(activity(OLD, stage)), ..observed(OLD, OLD) };
            assert_eq!(State::of(&path(NEW), &other), State::Pending, "that was another system");
        }
        let seen =
            Observed { quarantined: [(path(NEW), "it failed".to_owned())].into(), ..observed(OLD, OLD) };
        assert_eq!(State::of(&path(NEW), &seen), State::Quarantined);
    }

    #[test]
    fn a_host_is_up_to_date_only_with_all_of_its_profiles() {
        let at = |path: &str| ProfileAt {
            profile: Profile {
                name: ProfileName::parse("app").unwrap(),
                user: UserName::parse("ada").unwrap(),
                place: None,
            },
            path: self::path(path),
        };
        for only in [false, true] {
            let profiles = Profiles { all: vec![at(NEW)], only };
            for (has, system, state) in [
                (Some(NEW), NEW, State::UpToDate),
                (Some(OLD), NEW, State::Pending),
                (None, NEW, State::Pending),
                (Some(NEW), OLD, if only { State::UpToDate } else { State::Pending }),
            ] {
                let seen =
                    Observed { profiles: has.map(at).into_iter().collect(), ..observed(system, system) };
                assert_eq!(State::with(&path(NEW), &profiles, &seen), state, "{only} {has:?} {system}");
            }
        }
    }

    #[test]
    fn another_kernel_needs_a_reboot() {
        let seen = Observed { booted_kernel: Kernel(vec!["old".into()]), ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &seen), State::RebootNeeded);
    }

    #[test]
    fn a_machine_without_nix_or_nixos_is_unfit() {
        let no_nix = Observed { nix: false, ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &no_nix), State::Unfit);
        let debian = Observed { nixos: false, ..observed(NEW, NEW) };
        assert_eq!(State::of(&path(NEW), &debian), State::Unfit);
    }
}

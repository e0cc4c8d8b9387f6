//! Whether a host needs anything at all.

use bosco_model::{Activity, ActivityStage, Declaration, Digest, Goal, Observed, State, StorePath, Unfit};
use thiserror::Error;

/// What to do with a host that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It is where the goal wants it; the connection can be closed.
    Nothing,
    /// It is to get its toplevel, as far as it lacks it, and then the goal's steps.
    Deliver,
    /// Nothing may be done there.
    Refuse(Refusal),
}

/// Why nothing may be done on a host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no machine that could be deployed to.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Its configuration was written for another kind of machine.
    #[error("it is {is}, its configuration is for {configured}")]
    OtherSystem {
        /// What the machine is.
        is: String,
        /// What its configuration says.
        configured: String,
    },
    /// Somebody else is at it.
    #[error("an activation is under way there{}", who(busy.as_deref()))]
    Activating {
        /// By whom, since when and to what end.
        busy: Option<Box<Activity>>,
    },
    /// Who has made what it boots is not known, and such a host is not to be changed without a word.
    #[error("it boots {}, which is not known here: somebody else may have deployed it", profile.short())]
    Unknown {
        /// What it boots.
        profile: StorePath,
    },
    /// Somebody else was at it.
    #[error("it was given another system while this one was made ready")]
    Changed,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unfit(Unfit::NoNix) => {
                "bosco deploys to NixOS; is this the right address, and is `nix-store` in root's PATH there?"
            }
            Self::Unfit(Unfit::NotNixos) => {
                "neither /etc/NIXOS nor /etc/os-release says NixOS; is this the right address? \
                 A new machine is installed first, with nixos-install for example"
            }
            Self::OtherSystem { .. } => {
                "set `nixpkgs.hostPlatform` of this host, or its `deployment.targetHost`"
            }
            Self::Unknown { .. } => {
                "`bosco diff` says what would change; `--force-replace-unknown-profiles` replaces it, and \
                 `deployment.replaceUnknownProfiles = true` does so always"
            }
            Self::Changed => "somebody else deployed to it; apply again if yours is the one that should run",
            Self::Activating { .. } => "try again when it has ended; `bosco status` shows how it stands",
        }
    }
}

/// What to do with a host that answered `observed`, to bring it to what is declared, with that bundle of secrets where it
/// has some.
#[must_use]
pub fn plan(goal: Goal, declared: &Declaration, secrets: Option<Digest>, observed: &Observed) -> Plan {
    if let Some(unfit) = observed.unfit() {
        return Plan::Refuse(unfit.into());
    }
    if let Some(is) = observed.system.as_ref().filter(|is| !runs(is, &declared.host.system)) {
        let (is, configured) = (is.clone(), declared.host.system.clone());
        return Plan::Refuse(Refusal::OtherSystem { is, configured });
    }
    if observed.activating && goal != Goal::Push {
        let busy = observed.activity.clone().filter(|activity| activity.stage == ActivityStage::Open);
        return Plan::Refuse(Refusal::Activating { busy: busy.map(Box::new) });
    }
    let state = declared.state(observed);
    let there = match goal {
        Goal::Build | Goal::Keys => true,
        Goal::Push => observed.has_toplevel && is_kept(declared, observed),
        Goal::DryActivate => false,
        Goal::Test => matches!(state, State::UpToDate | State::RebootNeeded | State::NotCommitted),
        Goal::Boot => matches!(state, State::UpToDate | State::RebootNeeded | State::BootPending),
        Goal::Switch => matches!(state, State::UpToDate | State::RebootNeeded),
    };
    let has_secrets = match goal {
        Goal::Build | Goal::Push | Goal::DryActivate => true,
        Goal::Keys | Goal::Test | Goal::Boot | Goal::Switch => {
            secrets.is_none() || secrets == observed.secrets
        }
    };
    if there && has_secrets { Plan::Nothing } else { Plan::Deliver }
}

/// What a host boots that bosco has not brought there, and that may be somebody else's.
#[must_use]
pub fn foreign(observed: &Observed) -> Option<&StorePath> {
    let profile = observed.profile.as_ref()?;
    let last = observed.activity.as_ref().filter(|last| last.stage == ActivityStage::Committed);
    let brought = [last.map(|last| &last.toplevel), observed.hold.as_ref().map(|hold| &hold.toplevel)];
    (!brought.contains(&Some(profile))).then_some(profile)
}

/// Who is at an activation, in words behind others.
fn who(busy: Option<&Activity>) -> String {
    busy.map(|busy| format!(", by {}: {} ({})", busy.by, busy.toplevel, busy.words)).unwrap_or_default()
}

/// Whether garbage collection leaves the host its toplevel. Of other profiles the host does not say it.
fn is_kept(declared: &Declaration, observed: &Observed) -> bool {
    declared.profiles.is_empty()
        && [&observed.pushed, &observed.current, &observed.profile, &observed.booted]
            .into_iter()
            .any(|root| root.as_ref() == Some(&declared.toplevel))
}

/// A host whose store has no room for what it is to get. Both in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no room there: {} MiB have to be copied, {} MiB are free", needed / MIB, free / MIB)]
pub struct Shortage {
    /// What its new paths take.
    pub needed: u64,
    /// What its store has.
    pub free: u64,
}

const MIB: u64 = 1024 * 1024;

/// Whether a host lacks room for so many bytes of new paths. One that does not know is believed to have it.
#[must_use]
pub fn shortage(free: Option<u64>, needed: u64) -> Option<Shortage> {
    let free = free?;
    (free < needed).then_some(Shortage { needed, free })
}

/// Whether a machine of kind `is` runs what was built for `configured`: the 64-bit x86 and Arm ones also run their
/// 32-bit relatives.
fn runs(is: &str, configured: &str) -> bool {
    is == configured
        || matches!(
            (is, configured),
            ("x86_64-linux", "i686-linux") | ("aarch64-linux", "armv7l-linux" | "armv6l-linux")
        )
}

#[cfg(test)]
mod tests {
    use bosco_model::{Host, HostName, StorePath};
    use proptest::prelude::*;

    use super::*;

    fn path(number: u8) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-nixos-system-{number}", "0".repeat(32))).unwrap()
    }

    fn declared() -> Declaration {
        Declaration {
            host: Host::new(HostName::parse("web").unwrap(), "x86_64-linux"),
            derivation: format!("/nix/store/{}-web.drv", "0".repeat(32)).try_into().unwrap(),
            toplevel: path(1),
            profiles: Vec::new(),
            policy: bosco_model::Policy::default(),
            secrets: bosco_model::DeclaredSecrets::default(),
        }
    }

    fn observed(current: u8, profile: u8) -> Observed {
        Observed {
            system: Some("x86_64-linux".into()),
            nixos: true,
            nix: true,
            current: Some(path(current)),
            profile: Some(path(profile)),
            ..Observed::default()
        }
    }

    #[test]
    fn a_host_is_left_alone_only_where_the_goal_is_reached() {
        use Goal::{Boot, DryActivate, Switch, Test};
        for (goal, current, profile, nothing) in [
            (Switch, 1, 1, true),
            (Switch, 1, 0, false),
            (Switch, 0, 1, false),
            (Boot, 0, 1, true),
            (Boot, 1, 0, false),
            (Test, 1, 0, true),
            (Test, 0, 1, false),
            (DryActivate, 1, 1, false),
        ] {
            let planned = plan(goal, &declared(), None, &observed(current, profile));
            assert_eq!(
                planned == Plan::Nothing,
                nothing,
                "{goal}, runs {current}, boots {profile}: {planned:?}"
            );
        }
    }

    #[test]
    fn a_push_needs_only_the_paths_there_and_kept() {
        let seen = Observed { has_toplevel: true, activating: true, ..observed(0, 0) };
        assert_eq!(plan(Goal::Push, &declared(), None, &seen), Plan::Deliver, "nothing keeps it there");
        let seen = Observed { pushed: Some(path(1)), ..seen };
        assert_eq!(plan(Goal::Push, &declared(), None, &seen), Plan::Nothing);
        assert_eq!(plan(Goal::Push, &declared(), None, &observed(1, 1)), Plan::Deliver);
    }

    #[test]
    fn a_commit_that_was_cut_short_is_done_again() {
        let (by, words, log) = ("ada".into(), String::new(), String::new());
        let stage = ActivityStage::Open;
        let cut = Activity { toplevel: path(1), by, since: 0, stage, words, log };
        let seen = Observed { activity: Some(cut), ..observed(1, 1) };
        assert_eq!(plan(Goal::Switch, &declared(), None, &seen), Plan::Deliver);
    }

    #[test]
    fn a_host_with_other_secrets_is_not_up_to_date() {
        let (old, new) = (Digest::of(&[b"old"]), Digest::of(&[b"new"]));
        let seen = Observed { secrets: Some(old), ..observed(1, 1) };
        for goal in [Goal::Switch, Goal::Boot, Goal::Test, Goal::Keys] {
            assert_eq!(plan(goal, &declared(), Some(new), &seen), Plan::Deliver, "{goal}");
            assert_eq!(plan(goal, &declared(), Some(old), &seen), Plan::Nothing, "{goal}");
            assert_eq!(plan(goal, &declared(), None, &seen), Plan::Nothing, "{goal}: it keeps what it has");
        }
    }

    #[test]
    fn a_host_without_room_is_known_before_anything_is_copied() {
        let free = Some(100 * MIB);
        assert_eq!(shortage(free, 100 * MIB), None);
        let words = shortage(free, 381 * MIB).unwrap().to_string();
        assert_eq!(words, "no room there: 381 MiB have to be copied, 100 MiB are free");
        assert_eq!(shortage(None, u64::MAX), None, "what is not known does not stop it");
    }

    proptest! {
        #[test]
        fn nothing_is_delivered_to_a_machine_that_cannot_take_it(
            goal in prop::sample::select(Goal::ALL.to_vec()),
            nix: bool, nixos: bool, arm: bool, activating: bool, current in 0..2_u8, profile in 0..2_u8,
        ) {
            let seen = Observed {
                nix,
                nixos,
                system: Some(if arm { "aarch64-linux" } else { "x86_64-linux" }.into()),
                activating,
                ..observed(current, profile)
            };
            if plan(goal, &declared(), None, &seen) == Plan::Deliver {
                prop_assert!(nix && nixos && !arm && (!activating || goal == Goal::Push));
            }
        }
    }
}

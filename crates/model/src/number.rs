//! How often a fleet has decided what a host should run: releases and pushes are counted in one line.

use serde::{Deserialize, Serialize};

use crate::{Profiles, StorePath};

/// The number of a release, or of a push. What a host was brought to by a higher one is not taken back by a lower one.
pub type Number = u64;

/// The highest number that anything may have: as far as every reader of JSON counts. Without an end, one number that
/// somebody makes up would be the last.
pub const HIGHEST: Number = 1 << 53;

/// The number of a push to a host that has come to another one.
#[must_use]
pub fn next_number(number: Number) -> Number {
    number.saturating_add(1).min(HIGHEST)
}

/// What somebody has brought a host to by hand: it stays there until a release contains it, or somebody lets it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The number that the push had.
    pub number: Number,
    /// The system that was pushed; of profiles only, the first one's path.
    pub toplevel: StorePath,
    /// The profiles that were pushed beside it, or alone.
    #[serde(default, skip_serializing_if = "Profiles::is_empty")]
    pub profiles: Profiles,
}

impl Hold {
    /// Whether what was pushed is part of a system and profiles.
    #[must_use]
    pub fn is_in(&self, toplevel: &StorePath, profiles: &Profiles) -> bool {
        (self.profiles.only || *toplevel == self.toplevel) && self.profiles.are_in(&profiles.all)
    }

    /// Whether it lets a release of that number through, which lifts holds with at most `lifts` and brings this: one that is
    /// newer and contains what was pushed.
    #[must_use]
    pub fn gives_way_to(
        &self,
        number: Number,
        lifts: Number,
        toplevel: &StorePath,
        profiles: &Profiles,
    ) -> bool {
        number > self.number && (lifts >= self.number || self.is_in(toplevel, profiles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, ProfileAt, ProfileName, UserName};

    #[test]
    fn a_hold_gives_way_to_what_is_newer_and_contains_it() {
        let path = |name: &str| StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let hold = Hold { number: 7, toplevel: path("pushed"), profiles: Profiles::default() };
        for (number, lifts, toplevel, gives_way) in [
            (8, 7, "other", true),
            (8, 9, "other", true),
            (8, 0, "pushed", true),
            (8, 6, "other", false),
            (7, 7, "pushed", false),
            (6, 9, "pushed", false),
        ] {
            let came = hold.gives_way_to(number, lifts, &path(toplevel), &Profiles::default());
            assert_eq!(came, gives_way, "{number}, lifting {lifts}, of {toplevel}");
        }
    }

    #[test]
    fn a_hold_is_in_what_has_all_of_it() {
        let path = |name: &str| StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let at = |name: &str, to: &str| ProfileAt {
            profile: Profile {
                name: ProfileName::parse(name).unwrap(),
                user: UserName::parse("ada").unwrap(),
                place: None,
            },
            path: path(to),
        };
        let of = |only, all: &[(&str, &str)]| Profiles {
            only,
            all: all.iter().map(|(name, to)| at(name, to)).collect(),
        };
        for (pushed, toplevel, released, is_in) in [
            (of(false, &[("home", "1")]), "system", of(false, &[("tool", "1"), ("home", "1")]), true),
            (of(false, &[("home", "1")]), "system", of(false, &[("home", "2")]), false),
            (of(false, &[("home", "1")]), "system", of(false, &[]), false),
            (of(false, &[("home", "1")]), "other", of(false, &[("home", "1")]), false),
            (of(false, &[]), "system", of(false, &[("home", "1")]), true),
            (of(true, &[("home", "1")]), "other", of(false, &[("home", "1")]), true),
            (of(true, &[("home", "1")]), "other", of(true, &[("home", "2")]), false),
        ] {
            let hold = Hold { number: 7, toplevel: path("system"), profiles: pushed };
            assert_eq!(hold.is_in(&path(toplevel), &released), is_in, "{hold:?}, {toplevel}, {released:?}");
        }
    }

    #[test]
    fn numbers_have_an_end_that_is_not_passed() {
        assert_eq!(next_number(0), 1);
        assert_eq!(next_number(HIGHEST), HIGHEST);
        assert_eq!(next_number(u64::MAX), HIGHEST);
    }
}

//! How long to wait after something that did not succeed. Pure: chance is a number that comes from outside.

use std::time::Duration;

/// How waits grow: each is twice the one before, up to a longest one.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first one.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
}

/// For a connection to the hub.
pub const CONNECT: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };
/// For the first try after a connection that had lasted was lost: all hosts of a hub that was restarted lose theirs together.
pub const SPREAD: Duration = Duration::from_secs(8);
/// For a closure that could not be fetched.
pub const FETCH: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_secs(3600) };
/// For an activation that did not bring the host to its manifest, where nothing says that the manifest is to blame.
pub const ACTIVATE: Backoff =
    Backoff { first: Duration::from_secs(120), longest: Duration::from_secs(6 * 3600) };

/// For a host that could not build itself: what is wrong may be with a cache or an input, and is more often with its files.
pub const BUILD: Backoff =
    Backoff { first: Duration::from_secs(300), longest: Duration::from_secs(6 * 3600) };

impl Backoff {
    /// How long to wait after so many failures in a row, at least one: with a quarter more or less, as `random` has it, so that
    /// those that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        jitter(self.first.saturating_mul(doubled).min(self.longest), random)
    }
}

/// Any time up to that one.
#[must_use]
pub fn within(longest: Duration, random: u64) -> Duration {
    longest * u32::try_from(random % 1001).unwrap_or_default() / 1000
}

/// A time with a quarter more or less.
#[must_use]
pub fn jitter(time: Duration, random: u64) -> Duration {
    let share = u32::try_from(random % 1001).unwrap_or_default();
    (time * 3 / 4).saturating_add(time / 2 * share / 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn waits_grow_to_a_longest_one_and_no_further(failures: u32, random: u64) {
            for backoff in [CONNECT, FETCH, BUILD, ACTIVATE] {
                let wait = backoff.wait(failures, random);
                prop_assert!(wait >= backoff.first * 3 / 4 && wait <= backoff.longest * 5 / 4 );
                let next = backoff.wait(failures.saturating_add(1), random);
                prop_assert!(next >= wait, "{wait:?} and then {next:?}");
            }
        }

        #[test]
        fn those_that_failed_together_come_back_apart(a in 0_u64..1001, b in 0_u64..1001) {
            prop_assume!(a != b);
            prop_assert_ne!(CONNECT.wait(5, a), CONNECT.wait(5, b));
        }
    }
}

//! The systems that a host could go back to.

use serde::Serialize;

use crate::StorePath;

/// One generation of a host's system profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Its number; a newer one has a higher one.
    pub number: u32,
    /// When it was made, in seconds since 1970 by the host's clock.
    pub made: u64,
    /// Its system.
    pub toplevel: StorePath,
    /// What its system calls its version.
    pub version: Option<String>,
}

/// All generations of a host's system profile, in the order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations {
    all: Vec<Generation>,
    /// The one that the profile names.
    present: Option<u32>,
}

impl Generations {
    /// Generations as a host lists them, in any order.
    #[must_use]
    pub fn new(mut all: Vec<Generation>, present: Option<u32>) -> Self {
        all.sort_by_key(|generation| generation.number);
        Self { all, present }
    }

    /// All, the oldest first.
    #[must_use]
    pub fn all(&self) -> &[Generation] {
        &self.all
    }

    /// Whether the profile names this one.
    #[must_use]
    pub fn is_present(&self, generation: &Generation) -> bool {
        self.present == Some(generation.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_in_the_order_of_their_numbers_and_the_present_one_is_known() {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-nixos", "0".repeat(32))).unwrap();
        let of = |number| Generation { number, made: 0, toplevel: toplevel.clone(), version: None };
        let generations = Generations::new(vec![of(10), of(9), of(7)], Some(9));
        let listed: Vec<_> =
            generations.all().iter().map(|one| (one.number, generations.is_present(one))).collect();
        assert_eq!(listed, [(7, false), (9, true), (10, false)]);
    }
}

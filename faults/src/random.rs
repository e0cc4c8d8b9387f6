//! Numbers that look random and come again with the same seed.

use std::time::Duration;

/// SplitMix64: one multiplication and a few shifts for each number.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Those of one case, the same whichever host has it.
    pub(crate) fn of_case(seed: u64, case: u64) -> Self {
        let mut random = Self(seed ^ case.wrapping_mul(0xa076_1d64_78bd_642f));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..below`.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        let below = u64::try_from(below.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % below).unwrap_or_default()
    }

    /// Once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Some part of a duration.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        let parts = u32::try_from(self.below(1000)).unwrap_or_default();
        whole * parts / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_each_case_its_own() {
        let numbers = |mut random: Random| (0..5).map(|_| random.next()).collect::<Vec<_>>();
        assert_eq!(numbers(Random::of_case(7, 1)), numbers(Random::of_case(7, 1)));
        assert_ne!(numbers(Random::of_case(7, 1)), numbers(Random::of_case(7, 2)));
    }
}

//! The systems that a host could go back to.

use serde::Serialize;
use thiserror::Error;

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

    /// The one to go back to: that of a number, or else the one before. A host that runs something else than its profile
    /// names, after a test, goes back to that; else the newest of the older ones that is another system.
    ///
    /// # Errors
    /// [`NoGeneration`].
    pub fn back(
        &self,
        number: Option<u32>,
        running: Option<&StorePath>,
    ) -> Result<&Generation, NoGeneration> {
        let of = |number| self.all.iter().find(|generation| generation.number == number);
        if let Some(number) = number {
            return of(number).ok_or(NoGeneration::Number(number));
        }
        let present = self.present.and_then(of).ok_or(NoGeneration::Older)?;
        if running.is_some_and(|running| *running != present.toplevel) {
            return Ok(present);
        }
        let is_older = |one: &&Generation| one.number < present.number && one.toplevel != present.toplevel;
        self.all.iter().rev().find(is_older).ok_or(NoGeneration::Older)
    }

    /// Whether the profile names this one.
    #[must_use]
    pub fn is_present(&self, generation: &Generation) -> bool {
        self.present == Some(generation.number)
    }
}

/// There is no generation to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoGeneration {
    /// None of that number.
    #[error("it has no generation {0}")]
    Number(u32),
    /// None that is older.
    #[error("it has no older generation of another system")]
    Older,
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

    #[test]
    fn one_goes_back_to_the_generation_before_and_after_a_test_to_the_default() {
        let path = |system: u8| StorePath::parse(&format!("/nix/store/{}-{system}", "0".repeat(32))).unwrap();
        let of = |(number, system)| Generation { number, made: 0, toplevel: path(system), version: None };
        let systems = [(1, 1), (2, 2), (3, 2), (4, 4)];
        for (present, running, asked, back) in [
            (3, 2, None, Ok(1)),
            (4, 4, None, Ok(3)),
            (4, 2, None, Ok(4)),
            (1, 1, None, Err(NoGeneration::Older)),
            (4, 4, Some(2), Ok(2)),
            (2, 2, Some(4), Ok(4)),
            (4, 4, Some(9), Err(NoGeneration::Number(9))),
        ] {
            let all = Generations::new(systems.map(of).to_vec(), Some(present));
            let chosen = all.back(asked, Some(&path(running))).map(|generation| generation.number);
            assert_eq!(chosen, back, "at {present}, running {running}, asked for {asked:?}");
        }
    }
}

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

/// There is no such generation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoGeneration {
    /// The one that was asked for is not there, or not any more.
    #[error("it has no generation {0}")]
    Numbered(u32),
    /// None is older than the present one.
    #[error("it has no generation before the present one")]
    Before,
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

    /// The one to go back to: the one of that number, or else the last one before the present one that is another system.
    ///
    /// # Errors
    /// [`NoGeneration`] where there is none.
    pub fn back(&self, to: Option<u32>) -> Result<&Generation, NoGeneration> {
        let numbered = |number| self.all.iter().find(|generation| generation.number == number);
        if let Some(number) = to {
            return numbered(number).ok_or(NoGeneration::Numbered(number));
        }
        let present = self.present.and_then(numbered).ok_or(NoGeneration::Before)?;
        let is_before =
            |other: &&Generation| other.number < present.number && other.toplevel != present.toplevel;
        self.all.iter().rev().find(is_before).ok_or(NoGeneration::Before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generation(number: u32, system: u32) -> Generation {
        let toplevel = StorePath::parse(&format!("/nix/store/{system:032}-nixos")).unwrap();
        Generation { number, made: 0, toplevel, version: None }
    }

    #[test]
    fn going_back_twice_goes_back_further() {
        let all = || vec![generation(7, 3), generation(4, 1), generation(5, 2), generation(6, 3)];
        let back = |present| Generations::new(all(), Some(present)).back(None).map(|to| to.number);
        assert_eq!((back(7), back(5), back(4)), (Ok(5), Ok(4), Err(NoGeneration::Before)));
        assert_eq!(back(9), Err(NoGeneration::Before));
    }

    proptest! {
        #[test]
        fn where_it_goes_back_to_is_there_and_older_and_another_system(
            systems in prop::collection::vec(0_u32..4, 0..8), present in 0_u32..8, to in prop::option::of(0_u32..8),
        ) {
            let all = systems.iter().zip(0..).map(|(system, number)| generation(number, *system)).collect();
            let generations = Generations::new(all, Some(present));
            if let Ok(back) = generations.back(to) {
                prop_assert!(generations.all().contains(back));
                prop_assert!(to.is_none_or(|to| back.number == to));
                if to.is_none() {
                    prop_assert!(back.number < present);
                    prop_assert_ne!(systems[back.number as usize], systems[present as usize]);
                }
            }
        }
    }
}

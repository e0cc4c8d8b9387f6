//! How an activation ended.

use bosco_model::Goal;
use thiserror::Error;

use crate::{EXIT_REBOOT_NEEDED, Step, steps};

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepResult {
    /// The step.
    pub step: Step,
    /// Its exit code.
    pub code: i32,
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It reached its goal. `reboot` where the new system runs only after the next boot, against the goal.
    Reached {
        /// Whether a reboot has to follow.
        reboot: bool,
    },
    /// It did not, and the host's default is what it was.
    NotCommitted {
        /// What went wrong.
        fault: Fault,
    },
    /// It did not, and what the host boots next is not known for sure: the profile was set, the boot loader was not.
    BootUncertain {
        /// What went wrong.
        fault: Fault,
    },
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// `switch-to-configuration` did not begin: its lock was held, or a check said no.
    #[error("switch-to-configuration refused to begin")]
    Refused,
    /// The system's `activate` script failed; units were handled all the same.
    #[error("the activation script failed")]
    ActivationScript,
    /// A unit failed.
    #[error("some units failed")]
    UnitsFailed,
    /// Any other exit code.
    #[error("`{}` ended with exit code {code}", step.word())]
    Step {
        /// The step.
        step: Step,
        /// Its exit code.
        code: i32,
    },
    /// A step has no result: the activation was ended from outside.
    #[error("the activation was interrupted before `{}` had ended", step.word())]
    Interrupted {
        /// The first step without a result.
        step: Step,
    },
}

/// How the activation for `goal` ended, by what its steps came to and what they said. A step that failed is the last one
/// that has a result.
#[must_use]
pub fn judge(goal: Goal, results: &[StepResult], log: &str) -> Ending {
    let mut reboot = false;
    let mut profile_set = false;
    for step in steps(goal) {
        let fault = match results.iter().find(|result| result.step == *step).map(|result| result.code) {
            Some(0) => None,
            Some(EXIT_REBOOT_NEEDED) if *step == Step::Test && goal == Goal::Switch => {
                reboot = true;
                None
            }
            Some(code) => Some(fault(*step, code, log)),
            None => Some(Fault::Interrupted { step: *step }),
        };
        match fault {
            Some(fault) if profile_set => return Ending::BootUncertain { fault },
            Some(fault) => return Ending::NotCommitted { fault },
            None => profile_set |= *step == Step::SetProfile,
        }
    }
    Ending::Reached { reboot }
}

/// What an exit code of `switch-to-configuration` means (its `main.rs`). Many things end with 1; only what it says tells
/// whether it has begun.
fn fault(step: Step, code: i32, log: &str) -> Fault {
    const NOT_BEGUN: [&str; 2] = ["Could not acquire lock", "re-switch check"];
    match (step, code) {
        (Step::Test, _) if NOT_BEGUN.iter().any(|said| log.contains(said)) => Fault::Refused,
        (Step::Test, 2) => Fault::ActivationScript,
        (Step::Test, 4) => Fault::UnitsFailed,
        _ => Fault::Step { step, code },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(goal: Goal, codes: &[i32]) -> Ending {
        let results: Vec<_> = steps(goal)
            .iter()
            .zip(codes)
            .map(|(step, code)| StepResult { step: *step, code: *code })
            .collect();
        judge(goal, &results, "")
    }

    #[test]
    fn each_exit_code_has_its_meaning() {
        let not_committed = |fault| Ending::NotCommitted { fault };
        for (codes, ending) in [
            (&[0, 0, 0][..], Ending::Reached { reboot: false }),
            (&[100, 0, 0], Ending::Reached { reboot: true }),
            (&[1], not_committed(Fault::Step { step: Step::Test, code: 1 })),
            (&[2], not_committed(Fault::ActivationScript)),
            (&[4], not_committed(Fault::UnitsFailed)),
            (&[137], not_committed(Fault::Step { step: Step::Test, code: 137 })),
            (&[], not_committed(Fault::Interrupted { step: Step::Test })),
            (&[0, 1], not_committed(Fault::Step { step: Step::SetProfile, code: 1 })),
            (&[0, 0, 1], Ending::BootUncertain { fault: Fault::Step { step: Step::Boot, code: 1 } }),
            (&[0, 0], Ending::BootUncertain { fault: Fault::Interrupted { step: Step::Boot } }),
        ] {
            assert_eq!(run(Goal::Switch, codes), ending, "{codes:?}");
        }
        assert_eq!(run(Goal::Test, &[100]), not_committed(Fault::Step { step: Step::Test, code: 100 }));
    }

    #[test]
    fn a_held_lock_is_told_by_its_words_whatever_the_exit_code() {
        for code in [1, 11] {
            let results = [StepResult { step: Step::Test, code }];
            let ending = judge(Goal::Switch, &results, "Could not acquire lock\n");
            assert_eq!(ending, Ending::NotCommitted { fault: Fault::Refused });
        }
    }

    proptest! {
        #[test]
        fn an_activation_is_reached_only_if_every_step_was(
            goal in prop::sample::select(Goal::ALL.to_vec()),
            codes in prop::collection::vec(prop::sample::select(vec![0, 0, 0, 1, 2, 4, 100, 255]), 0..4),
        ) {
            let needed = steps(goal).len();
            if matches!(run(goal, &codes), Ending::Reached { .. }) {
                prop_assert!(codes.len() >= needed);
                for (index, code) in codes.iter().take(needed).enumerate() {
                    prop_assert!(*code == 0 || (index == 0 && goal == Goal::Switch && *code == 100));
                }
            }
        }
    }
}

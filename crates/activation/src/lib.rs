//! What an activation does and how it ended, decided from values.
//!
//! [`plan`] says whether a host needs anything at all, [`steps`] what is done on it and in which order, [`judge`] what
//! came of it. The hands are in `bosco-host`. The order is *commit last*: a host's default changes only after the new
//! system has been activated without an error, so that a crash before that boots what ran before.

mod judge;
mod plan;

pub use judge::{Ending, Fault, StepResult, judge};
pub use plan::{Plan, Refusal, Shortage, plan, shortage};

use bosco_model::Goal;

/// One thing that is done on the host. Each has one meaning of success: exit code 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `switch-to-configuration dry-activate`: says what it would do.
    DryActivate,
    /// `switch-to-configuration test`: the candidate runs, the default stays.
    Test,
    /// The profile names the candidate, on disk and synced.
    SetProfile,
    /// `switch-to-configuration boot`: the boot loader's default is the candidate.
    Boot,
}

impl Step {
    /// All of them, in the order in which an activation can run through them.
    pub const ALL: [Self; 4] = [Self::DryActivate, Self::Test, Self::SetProfile, Self::Boot];

    /// Its word, in the host's answers and in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DryActivate => "dry-activate",
            Self::Test => "test",
            Self::SetProfile => "set-profile",
            Self::Boot => "boot",
        }
    }
}

/// What is done for a goal, in order. Only [`SetProfile`](Step::SetProfile) and [`Boot`](Step::Boot) change what the
/// host boots, so they come last.
#[must_use]
pub fn steps(goal: Goal) -> &'static [Step] {
    match goal {
        Goal::Build | Goal::Push => &[],
        Goal::DryActivate => &[Step::DryActivate],
        Goal::Test => &[Step::Test],
        Goal::Boot => &[Step::SetProfile, Step::Boot],
        Goal::Switch => &[Step::Test, Step::SetProfile, Step::Boot],
    }
}

/// What `switch-to-configuration` exits with where the running system can't take the new one over without a reboot
/// (`init-interface-version` differs). The activation goes on to make it the next boot's.
pub const EXIT_REBOOT_NEEDED: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_the_default_comes_after_everything_that_may_fail_before() {
        for goal in Goal::ALL {
            let steps = steps(goal);
            let commit = steps.iter().position(|step| *step == Step::SetProfile).unwrap_or(steps.len());
            assert!(!steps[..commit].contains(&Step::Boot), "{goal}: {steps:?}");
            assert!(!steps[commit..].contains(&Step::Test), "{goal}: {steps:?}");
        }
    }
}

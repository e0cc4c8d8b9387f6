//! What an activation does and how it ends, decided from values.
//!
//! [`plan`] says whether a host needs anything at all. An [`Attempt`] is the transaction that brings it to a system, as a
//! state machine; the hands are in `bosco-host`. The order is *commit last*: a host's default changes only after the new
//! system has proven itself, so that a crash, a hang or a power cut before that boots what ran before.

mod attempt;
mod cause;
mod effect;
mod journal;
mod plan;
mod report;
mod request;
mod state;
#[cfg(test)]
mod tests;

pub use attempt::{Attempt, RESUMPTIONS};
pub use cause::{Cause, Complaint, Ending, Refused};
pub use effect::Effect;
pub use journal::{Journal, Quarantined, Tested, Unread};
pub use plan::{Plan, Refusal, Shortage, foreign, plan, shortage};
pub use report::{Busy, Report, Told};
pub use request::{HealthCheck, Kind, Reboot, Request, Settings};
pub use state::{Before, Checked, Event, Found, Into, Needs, State, Was};

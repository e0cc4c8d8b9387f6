//! An operator's session with a host: it is asked, it takes paths, it is told what to activate.
//!
//! The host's side is a shell program that the connection carries (`session.sh`, `confirm.sh`, `exec.sh`): it holds no
//! decision. What to do is decided by `bosco-activation`, and an activation is carried out by the helper (`bosco-host`).

mod answer;
mod begin;
mod follow;
#[cfg(test)]
mod programs;
mod session;
mod survey;
mod system;

pub use answer::Unreadable;
pub use begin::{Answer, Asked, Operator, Sudo};
pub use follow::{Following, Heard, Stage, Unended};
pub use session::{Error, Others, Ran, Session, Wanted};
pub use survey::{read_survey, survey_program};

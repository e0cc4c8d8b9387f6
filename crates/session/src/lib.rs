//! An operator's session with a host: it is asked, it takes paths, it is told what to activate.
//!
//! The host's side is a shell program that the connection carries (`session.sh`, `confirm.sh`, `exec.sh`): it holds no
//! decision. What to do is decided by `bosco-activation`, and an activation is carried out by the helper (`bosco-host`).

mod answer;
#[cfg(test)]
mod programs;
mod session;

pub use answer::Unreadable;
pub use session::{Error, Ran, Session, Stage, Wanted};

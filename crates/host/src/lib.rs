//! What happens on a host: it is asked, it takes paths, it activates.
//!
//! For now all of it is done by a shell program that the connection carries (`session.sh`, `activate.sh`): it holds no
//! decision but which step comes next. What to do is decided by `bosco-activation`, from what is read here.

mod answer;
#[cfg(test)]
mod programs;
mod session;

pub use answer::Unreadable;
pub use session::{Activation, Error, Ran, Session};

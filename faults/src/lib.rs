//! The matrix of faults: every effect of an activation is hit by every fault, on real machines, many times, and after each
//! one the host is judged.
//!
//! What strikes comes from outside: the power, the cable, a signal to what is in a unit's control group, something on the
//! disk that is in the way. Nothing in bosco or its helper knows of it. A strike counts for the effect that was at work,
//! by the host's own log, at that moment.

mod case;
mod cell;
mod drive;
mod judge;
mod obstacle;
mod random;
mod run;
mod secrets;
mod tally;
mod watch;
mod world;

pub use cell::{Cell, Fault, cells, way};
pub use run::{Spec, run};
pub use tally::Tally;

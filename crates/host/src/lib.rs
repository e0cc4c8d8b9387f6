//! What happens on a host: an activation is carried out, watched over, and taken back. What to do is decided by
//! `bosco-activation`; here are its hands. Must never need a network, a library of the candidate's, or the operator.

pub mod carry;
pub mod check;
mod drive;
pub mod durable;
pub mod generations;
pub mod hands;
mod leftover;
mod listen;
pub mod loader;
pub mod local;
pub mod memory;
mod notify;
pub mod places;
pub mod probe;
pub mod run;
pub mod units;

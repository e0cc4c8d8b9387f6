//! What happens on a host: an activation is carried out, watched over, and taken back. What to do is decided by
//! `bosco-activation`; here are its hands. Must never need a network, a library of the candidate's, or the operator.

pub mod carry;
mod check;
mod drive;
pub mod durable;
mod generations;
mod hands;
mod leftover;
mod listen;
mod loader;
pub mod local;
mod memory;
pub mod notify;
pub mod places;
mod probe;
mod profiles;
mod run;
pub mod secrets;
mod units;

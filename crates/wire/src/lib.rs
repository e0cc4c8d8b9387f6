//! Bytes between an operator and a host.
//!
//! The operator's own `ssh` carries them, so that their configuration, agent, hardware key and jump hosts work. What
//! the bytes mean is none of this crate's business.

mod ssh;
mod trouble;

pub use ssh::{Ssh, Wire, quote};
pub use trouble::{Error, Trouble};

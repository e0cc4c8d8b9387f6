//! Bytes between two boscos, or between bosco and a host.
//!
//! For an operator their own `ssh` carries them, so that their configuration, agent, hardware key and jump hosts work
//! ([`Ssh`], and [`hub`] for the way through a hub); for an agent it is russh ([`link`]). What is said to a hub is HTTP over either ([`http`], [`api`]).

pub mod api;
pub mod http;
pub mod hub;
pub mod line;
pub mod link;
pub mod pack;
mod process;
mod ssh;
pub mod stream;
mod trouble;

pub use ssh::{Ssh, Wire, quote};
pub use trouble::{Error, Trouble};

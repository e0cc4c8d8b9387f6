//! A fleet of real machines on one machine: each has systemd as its first process, a real sshd, a real nix-daemon, a
//! store and a network of its own, and can be cut off, delayed, frozen, or have its power cut.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use testbed::{Lab, LabSpec};
//! let lab = Lab::up(&LabSpec::new(3))?;
//! assert_eq!(lab.host("host1")?.ssh_ok("hostname")?.trim(), "host1");
//! lab.host("host2")?.cut()?;
//! # Ok(()) }
//! ```
//!
//! It needs root, and a Debian-like machine. What it makes lies below one folder ([`cache`]), carries one prefix, and is
//! gone when the [`Lab`] is dropped; what a killed run left is swept by the next. It must never touch a process, a
//! namespace or a file that it has not made, and never wait without a limit. It knows nothing of bosco: it is the world
//! that bosco is tried in.

pub mod cache;
mod cgroup;
pub mod cli;
mod delay;
mod disk;
mod emulated;
mod faults;
pub mod fleet;
mod host;
mod image;
mod ioctl;
mod lab;
mod micronix;
mod net;
mod nspawn;
mod operator;
mod programs;
mod rootfs;
mod run;
mod setup;
pub mod sops;
mod state;
mod sweep;
mod tools;

pub use delay::delay_frames;
pub use emulated::Loader;
pub use host::{Host, Unsynced};
pub use lab::{Guest, Lab, LabSpec};
pub use operator::Operator;
pub use programs::{helpers, package};
pub use run::{run, run_ok};
pub use setup::{prepare_clients, require_root};
pub use sweep::{Swept, sweep};

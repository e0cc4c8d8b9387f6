//! What a host has on the hub, over SFTP: its own world, and nothing else of the hub.
//!
//! | folder | what for | what the host may do |
//! |---|---|---|
//! | `/config` | its files, from which it builds itself | read |
//! | `/logs` | what it reports | make a file and write it until it is closed; read |
//! | `/backup` | its own space, for `restic`, `rclone` and the like | everything that files and folders allow, in its quota |
//!
//! They are folders of the same names in the host's own folder on the hub. The host's key may be stolen and the program at
//! the other end hostile, so no part of this trusts a path, a length or a number that comes from there:
//!
//! - `path` reads what a host means by a path, `rules` says what may be done there, `account` what room there is: all pure.
//! - `disk` is the only one that opens anything, and only through the kernel's own confinement to a folder.
//! - `session` has one host's requests, `serve` brings them from the wire, `world` has what all sessions of a host share.
//!
//! Must never: follow or make a link, open what is neither a file nor a folder, or block an async thread.

mod account;
mod disk;
mod files;
mod listing;
mod path;
mod refusal;
mod rules;
mod serve;
mod session;
mod tree;
mod world;

pub use account::Quota;
pub(crate) use path::CONFIG;
pub use serve::{Ended, serve};
pub use world::{Limits, World, Worlds};

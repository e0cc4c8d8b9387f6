//! Releases: what every host of a fleet should run, numbered, signed once, and taken or refused by each host for itself.
//!
//! A release is a Merkle tree over its manifests ([`tree`]). What is signed is a [`Statement`] that names the tree's root;
//! a host gets its [`Manifest`] with the way up to it ([`Sealed`]). Whether it takes it is [`judge`]: a function of what
//! the host knows. Nothing here reads a file, starts a process or looks at a clock.

mod contents;
mod fleet;
mod judge;
mod key;
mod manifest;
mod release;
mod report;
mod runs;
mod sealed;
#[cfg(test)]
mod tests;
pub mod tree;
mod trust;

pub use bosco_model::{Digest, Hold, InvalidDigest, Number, Policy, Profiles, Window};
pub use contents::{Contents, ContentsError, PathContents};
pub use fleet::{FleetFile, FleetFileError, HubFile, OperatorFile, QuotaFile, RetentionFile};
pub use judge::{Judged, Known, Late, Refusal, judge};
pub use key::{InvalidKey, Key};
pub use manifest::Manifest;
pub use release::{Draft, Release};
pub use report::{HostReport, SignedReport};
pub use runs::{InvalidProfiles, MAX_PROFILES, Runs};
pub use sealed::{Opened, Sealed, Statement, Unsealed};
pub use trust::{Level, Signer, SignerKind, Trust};

/// What a signature of a release is for: one that was made for something else is worth nothing.
pub const RELEASE_NAMESPACE: &str = "bosco-release";
/// The same of a host's report.
pub const REPORT_NAMESPACE: &str = "bosco-report";

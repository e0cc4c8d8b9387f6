//! What a host says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Hold, Number, ProfileAt, StorePath};

/// What one round trip to a host brought back. `None` is what the host did not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Nix's name of the machine, as `x86_64-linux`.
    pub system: Option<String>,
    /// Whether it is NixOS.
    pub nixos: bool,
    /// It has Nix, as far as the user's programs go.
    pub nix: bool,
    /// What its present boot is known by: another one after each.
    pub boot: Option<String>,
    /// The system that it booted.
    pub booted: Option<StorePath>,
    /// The system that it runs.
    pub current: Option<StorePath>,
    /// Which of that system's specialisations it runs, where it is one.
    pub specialisation: Option<String>,
    /// The system of its profile.
    pub profile: Option<StorePath>,
    /// Its other profiles, of those that it was asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileAt>,
    /// The system that its boot loader boots, where that can be read there.
    pub boots: Option<StorePath>,
    /// What was last pushed to it, and is kept from garbage collection.
    pub pushed: Option<StorePath>,
    /// Whether an activation is under way just now.
    pub activating: bool,
    /// The activation that is under way, or was the last one.
    pub activity: Option<Activity>,
    /// What it lacks to come back by itself from a boot that panics or hangs, in words.
    pub unprotected: Vec<String>,
    /// Systems that failed there by their own fault, with what they did.
    pub quarantined: BTreeMap<StorePath, String>,
    /// The highest number that was committed there, of releases and pushes; 0 where none was.
    pub number: Number,
    /// What it was brought to by hand, where no release has contained it since.
    pub hold: Option<Hold>,
    /// The bundle of secrets that it has come to.
    pub secrets: Option<Digest>,
    /// Its own public key of kind ssh-ed25519, a line as in `ssh_host_ed25519_key.pub`: what its secrets are sealed to.
    pub host_key: Option<String>,
    /// Whether the toplevel that was asked for is in its store.
    pub has_toplevel: bool,
    /// Whether the helper that was asked for is in its store.
    pub has_helper: bool,
    /// Whether garbage collection leaves it there.
    pub keeps_helper: bool,
    /// What it booted, of the things that only a boot can change.
    pub booted_kernel: Kernel,
    /// The same of the system that it runs.
    pub current_kernel: Kernel,
    /// Free space of its store, in bytes.
    pub free: Option<u64>,
}

/// Kernel, initrd, modules and kernel parameters of a system: where they differ from what was booted, only a reboot brings them in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kernel(pub Vec<String>);

/// An activation, as the host remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// What was, or is, to run.
    pub toplevel: StorePath,
    /// Who asked for it.
    pub by: String,
    /// When, in seconds since 1970 by the host's clock.
    pub since: u64,
    /// How it stands.
    pub stage: ActivityStage,
    /// How it ended, or what the host is at, in words.
    pub words: String,
    /// Where its log is, on the host.
    pub log: String,
}

/// How an activation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivityStage {
    /// It has not ended: it is under way, or was cut short.
    Open,
    /// It reached what was asked for.
    Committed,
    /// The system did not hold, and was taken back.
    Reverted,
    /// It was taken back, and nobody knows whose fault it was.
    Inconclusive,
    /// Nothing was changed.
    Refused,
}

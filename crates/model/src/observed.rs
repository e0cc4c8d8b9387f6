//! What a host says of itself.

use serde::Serialize;

use crate::StorePath;

/// What one round trip to a host brought back. `None` is what the host did not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Nix's name of the machine, as `x86_64-linux`.
    pub system: Option<String>,
    /// Whether it is NixOS.
    pub nixos: bool,
    /// It has Nix, as far as the user's programs go.
    pub nix: bool,
    /// The system that it booted.
    pub booted: Option<StorePath>,
    /// The system that it runs.
    pub current: Option<StorePath>,
    /// The system of its profile: what its boot loader was last told, unless it is the candidate still.
    pub profile: Option<StorePath>,
    /// The candidate of an activation that has not ended, or never did.
    pub candidate: Option<StorePath>,
    /// What was last pushed to it, and is kept from garbage collection.
    pub pushed: Option<StorePath>,
    /// Whether an activation is under way just now.
    pub activating: bool,
    /// Whether the toplevel that was asked for is in its store.
    pub has_toplevel: bool,
    /// What it booted, of the things that only a boot can change.
    pub booted_kernel: Kernel,
    /// The same of the system that it runs.
    pub current_kernel: Kernel,
    /// Free space of its store, in bytes.
    pub free: Option<u64>,
}

/// Kernel, initrd and modules of a system: where they differ from what was booted, only a reboot brings them in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Kernel(pub Vec<String>);

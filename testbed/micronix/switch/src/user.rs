//! The part that runs as a user who is logged in: gives the user's own systemd the new units.

use crate::say::say;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Started by the part that runs as root, and by nobody else.
pub(crate) fn run(parent_exe: &str) -> Result<()> {
    let myself = Path::new("/proc/self/exe")
        .canonicalize()
        .context("Failed to get full path to current executable")?;
    if Path::new(parent_exe) != myself {
        say("This program is not meant to be called from outside of switch-to-configuration.");
        bail!("called from outside");
    }
    let systemctl = std::env::var("SYSTEMCTL").context("missing required environment variable $SYSTEMCTL")?;
    let user = |args: &[&str]| Command::new(&systemctl).arg("--user").args(args).status();
    _ = user(&["daemon-reexec"]);
    let status = user(&["restart", "nixos-activation.service"])
        .context("Failed to restart nixos-activation.service")?;
    if !status.success() {
        bail!("Failed to restart nixos-activation.service");
    }
    Ok(())
}

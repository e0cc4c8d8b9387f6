//! What git knows of the fleet's files.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// What git says; `None` where there is none, or no repository.
pub(crate) async fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let said = Command::new("git").args(args).current_dir(dir).stdin(Stdio::null()).output().await.ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

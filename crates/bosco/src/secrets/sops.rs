//! The operator's own `sops`: it alone writes sops files.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::error::{Error, Exit};

/// The most that is shown of what it says, in characters.
const SHOWN: usize = 2000;

/// Encrypts a file's data key to whom `.sops.yaml` says. `file` is its path from `dir`, where that lies.
pub(crate) async fn update_keys(dir: &Path, file: &str) -> Result<(), Error> {
    run(dir, file, &["updatekeys".into(), "--yes".into()]).await
}

/// Encrypts a file with a new data key, and that to its recipients but for some: who knows the old one opens no more with
/// it what is written from now on. In one step, so that no one is taken out and left with the key.
pub(crate) async fn rotate(dir: &Path, file: &str, without: &[String]) -> Result<(), Error> {
    let without = format!("--rm-age={}", without.join(","));
    run(dir, file, &["rotate".into(), "--in-place".into(), without]).await
}

async fn run(dir: &Path, file: &str, words: &[String]) -> Result<(), Error> {
    let mut sops = Command::new("sops");
    // With a folder before it, it is not taken for an option.
    sops.args(words).arg(format!("./{file}")).current_dir(dir).stdin(Stdio::null());
    let said = sops.output().await.map_err(|error| not_run(&error))?;
    if said.status.success() {
        return Ok(());
    }
    let words: String = String::from_utf8_lossy(&said.stderr)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(SHOWN)
        .collect();
    Err(Error::new(Exit::NotDeployed, format!("sops can't encrypt {file} anew: {}", words.trim()))
        .hint("who can read the file now has to do it: sops takes SOPS_AGE_KEY_FILE and ~/.config/sops/age/keys.txt"))
}

/// Opens a file in the operator's editor, and gives sops' exit code.
pub(crate) async fn edit(dir: &Path, file: &str) -> Result<i32, Error> {
    let mut sops = Command::new("sops");
    let ended = sops.arg(format!("./{file}")).current_dir(dir).status().await;
    Ok(ended.map_err(|error| not_run(&error))?.code().unwrap_or(1))
}

fn not_run(error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::new(Exit::Usage, "`sops` was not found").hint(
            "it writes the files: `nix shell nixpkgs#sops`, or add it to the fleet's development shell",
        );
    }
    Error::new(Exit::Unable, format!("`sops` can't be run: {error}"))
}

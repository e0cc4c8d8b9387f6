//! Which commit a release is made from.

use std::path::Path;

use crate::git::git;

/// The commit of a working tree, in which also counts what git does not know where `all`. `Err` says in words why it names none, where that is worth a warning.
pub(crate) async fn commit(dir: &Path, all: bool) -> Result<Option<String>, String> {
    let Some(commit) = git(dir, &["rev-parse", "--verify", "--quiet", "HEAD"]).await else { return Ok(None) };
    let commit = commit.trim().to_owned();
    // What git does not know is not part of a flake.
    let others = if all { "--untracked-files=normal" } else { "--untracked-files=no" };
    match git(dir, &["status", "--porcelain", others, "--", "."]).await {
        Some(changes) if changes.trim().is_empty() => Ok(Some(commit)),
        _ => Err("there are changes that are not committed: the release names no commit".into()),
    }
}

//! Where the machine's administrative programs are, whatever the caller's PATH says.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// A PATH that also has what only root's has.
pub(crate) fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !std::env::split_paths(&path).any(|known| known == OsStr::new(folder)) {
            path.push(":");
            path.push(folder);
        }
    }
    path
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A command of the machine's own, without what would make it speak another language.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", path()).env("LC_ALL", "C.UTF-8");
    command
}

//! A file of known keys for one run, in the format of OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bosco_release::Key;

/// How many of them this run has made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// The file. It goes with the value.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
}

impl Known {
    /// A new one, with these names and their keys.
    pub(super) fn new(keys: &[(String, Key)]) -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("bosco-known-{}-{number}", std::process::id()));
        // What a killed run of the same number has left. Whoever else's it is, it can't be removed, and can't be taken.
        let _ = fs::remove_file(&path);
        write(&path, keys)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts other names and keys into it, at once.
    pub(super) fn write(&self, keys: &[(String, Key)]) -> io::Result<()> {
        let next = self.path.with_extension("next");
        let _ = fs::remove_file(&next);
        write(&next, keys)?;
        fs::rename(next, &self.path)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // What stays behind in the temporary directory is a few public keys.
        let _ = fs::remove_file(&self.path);
    }
}

fn write(path: &Path, keys: &[(String, Key)]) -> io::Result<()> {
    let lines: String = keys.iter().map(|(name, key)| format!("{name} {key}\n")).collect();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(lines.as_bytes())
}

//! Building a host's toplevel.

use std::io;
use std::path::{Path, PathBuf};

use bosco_model::Declaration;

use crate::command::run;
use crate::{Error, LogLine, Nix};

/// What keeps built toplevels from being collected while they are needed: links in a directory of this run, which goes
/// with it.
#[derive(Debug)]
pub struct Root {
    dir: PathBuf,
}

impl Root {
    /// A new one, in the user's runtime directory where there is one.
    ///
    /// # Errors
    /// What the system said.
    pub fn new() -> io::Result<Self> {
        let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let (id, mut number) = (std::process::id(), 0);
        loop {
            let dir = base.join(format!("bosco-{id}-{number}"));
            match std::fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { dir }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn link(&self, declared: &Declaration) -> PathBuf {
        self.dir.join(declared.host.name.as_str())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What stays behind in the temporary directory is a link that keeps one closure until it is cleaned up.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Nix {
    /// Builds a host's toplevel, or fetches it where it can be had, and roots it.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn build(
        &self,
        declared: &Declaration,
        root: &Root,
        dir: &Path,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<(), Error> {
        let mut command = self.nix("build", dir);
        command.arg("--print-build-logs").arg("--out-link").arg(root.link(declared));
        command.arg(format!("{}^out", declared.derivation.as_str()));
        run(command, Some(dir), listen).await.map(drop)
    }
}

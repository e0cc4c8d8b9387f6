//! Building toplevels.

use std::io;
use std::path::{Path, PathBuf};

use bosco_model::Declaration;

use crate::command::run;
use crate::{Error, LogLine, Nix, message};

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
}

impl Drop for Root {
    fn drop(&mut self) {
        // What stays behind in the temporary directory is a link that keeps one closure until it is cleaned up.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Nix {
    /// Builds toplevels, or fetches them where they can be had, and roots them; gives what came of each. It is one
    /// process for all of them: where two wait for the same derivation, Nix looks only every five seconds whether it is
    /// there (`build-poll-interval`).
    pub async fn build(
        &self,
        declared: &[&Declaration],
        root: &Root,
        dir: &Path,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Vec<Result<(), Error>> {
        if declared.is_empty() {
            return Vec::new();
        }
        let mut command = self.nix("build", dir);
        command.args(["--keep-going", "--print-build-logs", "--out-link"]).arg(root.dir.join("toplevel"));
        command.args(declared.iter().map(|one| format!("{}^out", one.derivation.as_str())));
        let Err(error) = run(command, Some(dir), listen).await.map(drop) else {
            return declared.iter().map(|_| Ok(())).collect();
        };
        let Error::Failed { log, .. } = &error else {
            return declared.iter().map(|_| Err(error.clone())).collect();
        };
        let causes = message::failed_derivations(log);
        let mut results = Vec::with_capacity(declared.len());
        for one in declared {
            results.push(if self.is_valid(one).await {
                Ok(())
            } else {
                Err(self.cause(one, &causes, &error).await)
            });
        }
        results
    }

    async fn is_valid(&self, declared: &Declaration) -> bool {
        let query = self.store(["--check-validity", declared.toplevel.as_str()]);
        run(query, None, &mut |_| {}).await.is_ok()
    }

    /// Of all that failed, what this toplevel needs.
    async fn cause(&self, declared: &Declaration, causes: &[(String, String)], all: &Error) -> Error {
        let query = self.store(["--query", "--requisites", declared.derivation.as_str()]);
        let needs = run(query, None, &mut |_| {}).await.unwrap_or_default();
        let needs = String::from_utf8_lossy(&needs);
        let is_needed = |derivation: &str| needs.lines().any(|line| line == derivation);
        let told: Vec<&str> = causes
            .iter()
            .filter(|(derivation, _)| is_needed(derivation))
            .map(|(_, why)| why.as_str())
            .collect();
        match all {
            Error::Failed { log, .. } if !told.is_empty() => {
                Error::Failed { message: told.join("\n"), log: log.clone() }
            }
            other => other.clone(),
        }
    }
}

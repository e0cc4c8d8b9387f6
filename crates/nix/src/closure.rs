//! A toplevel with all that it needs, and getting it out of the store.

use std::path::Path;

use bosco_model::StorePath;
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

use crate::command::{finish, read_log, run, spawn};
use crate::{Error, Nix};

/// The paths that a toplevel needs, itself included, each behind those that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// Path and size of its NAR in bytes.
    pub paths: Vec<(StorePath, u64)>,
}

/// A running export: paths as one stream, in the format of `nix-store --export`.
#[derive(Debug)]
pub struct Export {
    child: Child,
    /// The stream.
    pub stream: ChildStdout,
    log: JoinHandle<Result<String, Error>>,
}

impl Nix {
    /// The closure of a path that is in the store.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn closure(&self, toplevel: &StorePath) -> Result<Closure, Error> {
        let mut command = self.nix("path-info", Path::new("/"));
        // As text: the shape of its JSON has changed twice, and differs between Nix and Lix.
        command.args(["--recursive", "--size", toplevel.as_str()]);
        let answer = run(command, None, &mut |_| {}).await?;
        read(&String::from_utf8_lossy(&answer))
            .map_err(|why| Error::Answer { program: "nix path-info".into(), why })
    }

    /// Starts to export paths. What they refer to must be among them, or there already. They are arguments of a program:
    /// a few thousand at once.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn export(&self, paths: &[StorePath]) -> Result<Export, Error> {
        let args = std::iter::once("--export").chain(paths.iter().map(StorePath::as_str));
        let mut child = spawn(self.store(args))?;
        let Some(stream) = child.stdout.take() else {
            return Err(Error::Answer {
                program: "nix-store --export".into(),
                why: "it has no output".into(),
            });
        };
        let stderr = child.stderr.take();
        let log = tokio::spawn(async move { read_log(stderr, &mut |_| {}).await });
        Ok(Export { child, stream, log })
    }
}

impl Export {
    /// Waits for its end, after the stream was read to its end.
    ///
    /// # Errors
    /// [`Error::Failed`] where not all of it was exported.
    pub async fn finish(mut self) -> Result<(), Error> {
        drop(self.stream);
        let status = self.child.wait().await;
        let log = self.log.await.unwrap_or_else(|_| Ok(String::new()))?;
        finish("nix-store --export", None, status, &log)
    }
}

/// Reads what `nix path-info --recursive --size` answers: a line for each path, behind those that it refers to.
fn read(answer: &str) -> Result<Closure, String> {
    let line = |line: &str| {
        let (path, size) = line.split_once(char::is_whitespace).ok_or_else(|| format!("`{line}`"))?;
        let path = StorePath::parse(path).map_err(|error| error.to_string())?;
        let size = size.trim().parse().map_err(|_| format!("`{line}`"))?;
        Ok((path, size))
    };
    Ok(Closure { paths: answer.lines().map(line).collect::<Result<_, String>>()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_path_info_answers_is_read_in_its_order() {
        let path = |name: &str| format!("/nix/store/{}-{name}", "0".repeat(32));
        let answer = format!("{}\t   120\n{}   \t 8112\n", path("b"), path("a"));
        let paths: Vec<_> = read(&answer).unwrap().paths;
        assert_eq!(paths[0], (StorePath::parse(&path("b")).unwrap(), 120));
        assert_eq!(paths[1], (StorePath::parse(&path("a")).unwrap(), 8112));
        for wrong in [path("a"), format!("{} many", path("a")), "/etc 7".into()] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_reading_it_panic(answer in any::<String>()) {
            let _ = read(&answer);
        }
    }
}

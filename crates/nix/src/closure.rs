//! A toplevel with all that it needs, and getting it out of the store.

use bosco_model::StorePath;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, ChildStdout};

use crate::command::{finish, read_log, run, spawn};
use crate::{Error, Nix};

/// The paths that a toplevel needs, itself included.
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathInfo {
    #[serde(default)]
    nar_size: u64,
}

impl Nix {
    /// The closure of a path that is in the store.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn closure(&self, toplevel: &StorePath) -> Result<Closure, Error> {
        let mut command = self.nix("path-info", std::path::Path::new("/"));
        command.args(["--recursive", "--json", toplevel.as_str()]);
        let answer = run(command, None, &mut |_| {}).await?;
        read(&answer).map_err(|why| Error::Answer { program: "nix path-info".into(), why })
    }

    /// Starts to export paths, which Nix puts in an order that the receiver can take. What they refer to must be among
    /// them, or there already.
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
        Ok(Export { child, stream })
    }
}

impl Export {
    /// Waits for its end, after the stream was read to its end.
    ///
    /// # Errors
    /// [`Error::Failed`] where not all of it was exported.
    pub async fn finish(mut self) -> Result<(), Error> {
        drop(self.stream);
        let log = read_log(self.child.stderr.take(), &mut |_| {}).await?;
        finish("nix-store --export", None, self.child.wait().await, &log)
    }
}

/// Reads what `nix path-info --json` answers: a map from path to facts since Nix 2.19, a list before.
fn read(answer: &[u8]) -> Result<Closure, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let Value::Object(map) = answer else { return Err("it is no map of paths".into()) };
    let mut paths = Vec::with_capacity(map.len());
    for (path, info) in map {
        let path = StorePath::try_from(path).map_err(|error| error.to_string())?;
        let info: PathInfo = serde_json::from_value(info).map_err(|error| format!("{path}: {error}"))?;
        paths.push((path, info.nar_size));
    }
    Ok(Closure { paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> String {
        format!("/nix/store/{}-{number}", "0".repeat(32))
    }

    #[test]
    fn what_path_info_answers_is_read() {
        let answer = format!(
            r#"{{"{}":{{"narSize":7,"references":["{}"]}},"{}":{{"narSize":5}}}}"#,
            path(1),
            path(0),
            path(0)
        );
        let sizes: Vec<u64> =
            read(answer.as_bytes()).unwrap().paths.into_iter().map(|(_, size)| size).collect();
        assert_eq!(sizes.iter().sum::<u64>(), 12);
        assert!(read(b"[]").is_err());
        assert!(read(b"{\"/etc\":{}}").is_err());
    }
}

//! The test programs of the workspace, a few of them side by side: most of the time those with machines wait for them.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::tools::{cargo, root, run};

/// The folders whose tests take longest, which begin first so that none of them is alone at the end.
const SLOW: [&str; 3] = ["crates/bosco", "crates/agent", "crates/hub"];

/// The program that takes the machine whole, with fifty hosts: whoever ran beside it would wait too long for theirs.
const ALONE: &str = "fifty";
/// How long a program may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(25 * 60);
/// How `timeout` ends where it had to end the program.
const TIMED_OUT: i32 = 124;

/// A test program, as cargo has built it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: String,
    /// Where cargo would run it: its package's folder.
    dir: PathBuf,
    executable: PathBuf,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.dir.strip_prefix(root()).unwrap_or(&self.dir).display())
    }
}

/// What cargo says of one thing that it has built, as far as it matters here.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all tests and runs them: each program's output is shown when it has ended. Those that fail do not keep others from
/// running.
pub(crate) fn run_all() -> Result<()> {
    let (alone, others): (Vec<Program>, Vec<Program>) =
        built()?.into_iter().partition(|program| program.name == ALONE);
    let failed = Mutex::new(Vec::new());
    let run_these = |programs: Vec<Program>, side_by_side: usize| {
        let programs = Mutex::new(VecDeque::from(programs));
        thread::scope(|scope| {
            for _ in 0..side_by_side {
                scope.spawn(|| {
                    loop {
                        let next = locked(&programs).pop_front();
                        let Some(program) = next else { break };
                        if let Err(error) = run_one(&program) {
                            locked(&failed).push(format!("{program}: {error:#}"));
                        }
                    }
                });
            }
        });
    };
    run_these(alone, 1);
    run_these(others, thread::available_parallelism().map_or(2, usize::from) + 1);
    let doc = run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    doc
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has cargo build the tests, and says which programs there are, in the order in which they begin.
fn built() -> Result<Vec<Program>> {
    let mut command =
        cargo(&["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
    let output =
        command.current_dir(root()).stderr(Stdio::inherit()).output().context("could not run cargo test")?;
    ensure!(output.status.success(), "cargo test --no-run ended with {}", output.status);
    let mut programs = parse(&String::from_utf8_lossy(&output.stdout));
    if programs.is_empty() {
        bail!("cargo test --no-run names no test program");
    }
    programs.sort_by_key(|program| {
        SLOW.iter().position(|slow| program.dir.ends_with(slow)).unwrap_or(SLOW.len())
    });
    Ok(programs)
}

/// The test programs in cargo's messages, one in each line.
fn parse(messages: &str) -> Vec<Program> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter(|artifact| artifact.profile.test)
        .filter_map(|artifact| {
            let dir = artifact.manifest_path.parent()?.to_path_buf();
            Some(Program { name: artifact.target.name, dir, executable: artifact.executable? })
        })
        .collect()
}

/// Runs a program and shows what it said.
fn run_one(program: &Program) -> Result<()> {
    let started = Instant::now();
    // A file, and not a pipe: what a test leaves running must not keep this waiting.
    let said = program.executable.with_extension("said");
    let file = File::create(&said).with_context(|| format!("could not write {}", said.display()))?;
    let status = Command::new("timeout")
        .args(["--kill-after=30", &LONGEST.as_secs().to_string()])
        .arg(&program.executable)
        .current_dir(&program.dir)
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("could not share a file")?)
        .stderr(file)
        .status()
        .with_context(|| format!("could not run {}", program.executable.display()))?;
    let text = std::fs::read(&said).with_context(|| format!("could not read {}", said.display()))?;
    eprint!("\n-- {program}: {:.0} s\n{}", started.elapsed().as_secs_f64(), String::from_utf8_lossy(&text));
    ensure!(status.code() != Some(TIMED_OUT), "it was not through after {} minutes", LONGEST.as_secs() / 60);
    ensure!(status.success(), "{status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn test_programs_are_found_among_what_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/hub/Cargo.toml","target":{"name":"killed"},"profile":{"test":true},"executable":"/w/target/debug/deps/killed-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/bosco/Cargo.toml","target":{"name":"bosco"},"profile":{"test":false},"executable":"/w/target/debug/bosco"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = parse(messages);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].dir.as_path()), ("killed", Path::new("/w/crates/hub")));
    }
}

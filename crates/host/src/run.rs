//! Programs of the host, with a limit to how long they take and how much they say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How much is kept of what a program says, in bytes: its end.
const KEPT: usize = 64 * 1024;
/// How long what a program has left behind may hold its output.
const LINGER: Duration = Duration::from_millis(500);

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its exit code; 128 and the number, where a signal ended it.
    pub code: i32,
    /// What it said, on its output and its errors alike; of much, the end.
    pub said: String,
}

impl Ran {
    /// Its last words, on one line.
    #[must_use]
    pub(crate) fn last_words(&self) -> String {
        const LONGEST: usize = 500;
        let mut lines = self.said.lines().map(str::trim).filter(|line| !line.is_empty());
        let last = lines.next_back().unwrap_or("it said nothing");
        last.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
    }
}

/// A program of the host, found in the PATH that services have there.
#[must_use]
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", path()).current_dir("/");
    command
}

/// Where programs are looked for: what the helper was given, and where NixOS has them.
fn path() -> String {
    let given = std::env::var("PATH").unwrap_or_default();
    let places = "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    if given.is_empty() { places.to_owned() } else { format!("{given}:{places}") }
}

/// Runs a program to its end, at most so long; it and all that it has started in its group is killed then.
///
/// # Errors
/// In words, where it can't be started or does not end in time.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Ran, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.process_group(0).stdin(Stdio::null());
    // One pipe for both, so that what is said stays in its order.
    let (mut read, write) = std::io::pipe().map_err(|error| format!("no pipe for `{name}`: {error}"))?;
    let errors = write.try_clone().map_err(|error| format!("no pipe for `{name}`: {error}"))?;
    command.stdout(write).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("`{name}` can't be started: {error}"))?;
    // The command keeps its ends of the pipe, and would never see them closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = read.read(&mut buffer) {
            if tell.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut said = Vec::new();
    let deadline = Instant::now() + limit;
    let code = wait(&mut child, deadline, &told, &mut said);
    let text = String::from_utf8_lossy(&said).into_owned();
    match code {
        Ok(Some(code)) => Ok(Ran { code, said: text }),
        Ok(None) => Err(format!("`{name}` did not end within {} s", limit.as_secs())),
        Err(error) => Err(format!("`{name}` can't be waited for: {error}")),
    }
}

/// Waits for a child and for what it says. `None`: it did not end in time, and was killed.
fn wait(
    child: &mut Child,
    deadline: Instant,
    told: &mpsc::Receiver<Vec<u8>>,
    said: &mut Vec<u8>,
) -> std::io::Result<Option<i32>> {
    let mut keep = |bytes: Vec<u8>| {
        said.extend(bytes);
        let excess = said.len().saturating_sub(KEPT);
        said.drain(..excess);
    };
    // Its output ends with it, as a rule; where something that it left behind holds it, its own end is looked for.
    let mut pause = Duration::from_millis(100);
    loop {
        let now = Instant::now();
        if now >= deadline {
            if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        match told.recv_timeout(pause.min(deadline - now)) {
            Ok(bytes) => keep(bytes),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    let end = Instant::now() + LINGER;
                    while let Ok(bytes) = told.recv_timeout(end.saturating_duration_since(Instant::now())) {
                        keep(bytes);
                    }
                    return Ok(Some(exit_code(status)));
                }
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
    // It says nothing any more, and may still work.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(exit_code(status)));
        }
        if Instant::now() >= deadline {
            if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Runs a program as [`run`] does, with what it says in a file, where it is also when the program hangs. Given is what it
/// added to that file; of much, the end.
///
/// # Errors
/// As for [`run`]; and where the file can't be written.
pub(crate) fn run_into(command: &mut Command, file: &Path, limit: Duration) -> Result<Ran, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let open = || -> std::io::Result<(File, File, u64)> {
        let out = File::options().create(true).append(true).open(file)?;
        Ok((out.try_clone()?, out.try_clone()?, out.metadata()?.len()))
    };
    let (out, errors, from) = open().map_err(|error| format!("can't write {}: {error}", file.display()))?;
    command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("`{name}` can't be started: {error}"))?;
    let group = child.id();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait()));
    let status = match told.recv_timeout(limit) {
        Ok(status) => status,
        Err(_) => {
            if let Some(group) = Pid::from_raw(i32::try_from(group).unwrap_or_default()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(format!("`{name}` did not end within {} s", limit.as_secs()));
        }
    };
    let status = status.map_err(|error| format!("`{name}` can't be waited for: {error}"))?;
    Ok(Ran { code: exit_code(status), said: read_from(file, from, KEPT as u64).unwrap_or_default() })
}

/// The end of a file, at most so many bytes.
///
/// # Errors
/// Where it can't be read.
pub(crate) fn tail(file: &Path, most: u64) -> std::io::Result<String> {
    let length = File::open(file)?.metadata()?.len();
    read_from(file, length.saturating_sub(most), most)
}

/// What a file has behind a position, at most as much as is kept.
fn read_from(file: &Path, from: u64, most: u64) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(most))))?;
    let mut said = Vec::new();
    file.take(most).read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Runs a program that has to succeed, and gives what it said.
///
/// # Errors
/// In words, where it does not.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = run(command, limit)?;
    if ran.code == 0 {
        Ok(ran.said)
    } else {
        Err(format!("`{name}` ended with {}: {}", ran.code, ran.last_words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = program("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_given_with_what_it_said_and_how_it_ended() {
        let ran = run(&mut sh("echo one; echo two >&2; exit 3"), Duration::from_secs(10)).unwrap();
        assert_eq!(ran, Ran { code: 3, said: "one\ntwo\n".into() });
        assert_eq!(ran.last_words(), "two");
        let error = succeed(&mut sh("echo no; exit 1"), Duration::from_secs(10)).unwrap_err();
        assert_eq!(error, "`sh` ended with 1: no");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let started = Instant::now();
        let error = run(&mut sh("sleep 100 & sleep 100"), Duration::from_millis(300)).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let started = Instant::now();
        let ran = run(&mut sh("echo done; sleep 5 &"), Duration::from_secs(60)).unwrap();
        assert_eq!(ran.code, 0);
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}

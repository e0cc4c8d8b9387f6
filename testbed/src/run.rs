//! Runs other programs, each within a limit of time. What outlives its limit is killed with all it started.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program that is gone may keep its output open, through what it left behind.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What a small administrative command may take, on a machine that is busy with other things.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// Runs a command to its end and takes what it says.
///
/// # Errors
/// Where it can't be started, or has not ended within `limit`: then it is killed.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    feed(command, None, limit)
}

/// As [`run`], with what the command reads.
pub(crate) fn feed(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Result<Output> {
    let shown = show(command);
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().with_context(|| format!("can't start {shown}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        let input = input.to_vec();
        // Where the command does not read all of it, its status says what matters.
        thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    }
    let Some(status) = wait(&mut child, limit)? else {
        kill(&mut child);
        let said = String::from_utf8_lossy(&stderr.take()).into_owned();
        bail!("{shown} did not end within {limit:?}, and was killed{}", quoted(&said));
    };
    Ok(Output { status, stdout: stdout.take(), stderr: stderr.take() })
}

/// As [`run`], and takes nothing but success; returns what came on the standard output.
///
/// # Errors
/// As [`run`], and where the command fails: with what it said.
pub fn run_ok(command: &mut Command, limit: Duration) -> Result<String> {
    ok(&show(command), run(command, limit)?)
}

/// The standard output of a command that succeeded.
pub(crate) fn ok(shown: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.trim().is_empty() {
            said = String::from_utf8_lossy(&output.stdout).into_owned();
        }
        bail!("{shown} failed ({}){}", output.status, quoted(&said));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} wrote something that is not text"))
}

/// Waits for the end of a process; none where it has not come within the limit.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Tries until it is true, within a limit. What a try says last is the error's reason.
pub(crate) fn until(limit: Duration, pause: Duration, mut holds: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match holds() {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > limit => return Err(error),
            Err(_) => thread::sleep(pause),
        }
    }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = wait(child, LAST_WORDS);
}

/// What a program writes, while it runs and a little longer.
struct Pipe {
    read: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Pipe {
    /// All of it; where something still holds the pipe open, what has come so far.
    fn take(&self) -> Vec<u8> {
        let _ = self.end.recv_timeout(LAST_WORDS);
        std::mem::take(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Pipe {
    let (sender, end) = channel();
    let read = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&read);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        if let Some(mut pipe) = pipe {
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        }
        let _ = sender.send(());
    });
    Pipe { read, end }
}

/// A command as one would type it, shortened.
pub(crate) fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("`{}…`", &line[..end]),
        None => format!("`{line}`"),
    }
}

fn quoted(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() { String::new() } else { format!(":\n{}", tail(said, 20)) }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let error =
            run(Command::new("sh").args(["-c", "echo why >&2; sleep 60 & wait"]), Duration::from_millis(200))
                .unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(error.to_string().contains("did not end within 200ms"), "{error}");
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_failure_says_what_the_command_said() {
        let error = run_ok(Command::new("sh").args(["-c", "echo no room >&2; exit 3"]), SHORT).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }
}

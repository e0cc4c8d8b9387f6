//! An operator's session with one host: one connection, which answers what the host is before anything is asked, and
//! carries everything after that.

use std::collections::HashSet;
use std::time::Duration;

use bosco_activation::{StepResult, steps};
use bosco_model::{Generations, Goal, Observed, StorePath, Target};
use bosco_wire::{Ssh, Trouble, Wire, quote};
use thiserror::Error;
use tokio::time::Instant;

use crate::answer::{self, Line};

const PRELUDE: &str = include_str!("prelude.sh");
const SESSION: &str = include_str!("session.sh");
const EXEC: &str = include_str!("exec.sh");
const ACTIVATE: &str = include_str!("activate.sh");

/// What Nix and its database say where the disk is full.
const NO_SPACE: [&str; 3] = ["No space left", "disk is full", "signal 7"];

/// What the program says first. What a login script prints before it is passed over.
const GREETING: &str = "bosco 1";
/// How much a login script may print.
const MAX_CHATTER: usize = 1000;
/// How many lines one answer may have: every path that one question names, with room for a log.
const MAX_LINES: usize = 50_000;
/// How many paths go into one question: few enough for a program's arguments, and for an answer that fits into the
/// connection's buffers while the question is still being sent.
const PATHS_AT_ONCE: usize = 5_000;
/// How much is kept of what programs on the host say, in bytes.
const MAX_LOG: usize = 128 * 1024;

/// How long a host may take to connect and to begin to speak. A key's passphrase or touch is within it.
const GREET: Duration = Duration::from_secs(120);
/// How long a question to Nix's database may take on a slow machine.
const ASK: Duration = Duration::from_secs(120);
/// How long a host may take to find out that its caches have nothing.
const SUBSTITUTE: Duration = Duration::from_secs(60);
/// How many bytes a second a host's caches have to send, or the rest comes from here.
const LEAST_RATE: u64 = 256 * 1024;
/// How long the host may take to register what it was sent, after the last byte.
const IMPORT: Duration = Duration::from_secs(600);
/// How long an activation may take; the host ends it then.
const ACTIVATION: Duration = Duration::from_secs(900);

/// How much an answer may be.
struct Limit {
    time: Duration,
    /// How many lines are read.
    lines: usize,
    /// How much is kept of what programs on the host say, in bytes.
    log: usize,
}

impl Limit {
    const fn of(time: Duration) -> Self {
        Self { time, lines: MAX_LINES, log: MAX_LOG }
    }
}

/// A command of the operator's may take longer than anybody waits, and say what it likes; a megabyte of it is kept.
const RUN: Limit = Limit { time: Duration::from_secs(24 * 3600), lines: usize::MAX, log: 1024 * 1024 };

/// Why a session could not go on.
#[derive(Debug, Error)]
pub enum Error {
    /// The connection could not be had, or broke.
    #[error(transparent)]
    Wire(#[from] bosco_wire::Error),
    /// The host could not take the paths.
    #[error("it could not take the paths: {0}")]
    Import(String),
    /// The activation could not be started.
    #[error("the activation could not be started: {0}")]
    Start(String),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Wire(error) => Some(error.hint()),
            Self::Import(said) if NO_SPACE.iter().any(|sign| said.contains(sign)) => Some(
                "free some space there, for example with `nix-collect-garbage --delete-older-than 30d`"
                    .into(),
            ),
            Self::Import(said) if said.contains("hash mismatch") => Some(
                "the store here is damaged: `nix-store --verify --check-contents --repair` mends it".into(),
            ),
            Self::Start(said) if said.contains("already") => {
                Some("somebody else is activating there; apply again when that has ended".into())
            }
            Self::Import(_) => {
                Some("that is what Nix there says; `bosco apply` again once it is mended".into())
            }
            Self::Start(_) => Some("that is what `systemd-run` there says; nothing was activated".into()),
        }
    }
}

/// What came of an activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The exit codes of its steps.
    pub results: Vec<StepResult>,
    /// What it said.
    pub log: String,
}

/// What came of a command of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub exit_code: i32,
    /// What it said; of what is longer than a megabyte, the beginning.
    pub output: String,
    /// Whether it said more.
    pub cut: bool,
}

/// An open session with a host.
#[derive(Debug)]
pub struct Session {
    wire: Wire,
}

impl Session {
    /// Connects, and brings back what the host says of itself: one connection, and one round trip beyond it. `toplevel` is
    /// what it is to get, where that is known.
    ///
    /// # Errors
    /// [`Error::Wire`] with what the trouble comes down to.
    pub async fn open(
        ssh: &Ssh,
        target: &Target,
        toplevel: Option<&StorePath>,
    ) -> Result<(Self, Observed), Error> {
        let mut session = Self::start(ssh, target, &program(toplevel)).await?;
        let observed = session.survey().await?;
        Ok((session, observed))
    }

    /// What the host says of itself now.
    ///
    /// # Errors
    /// [`Error::Wire`] where it does not say.
    pub async fn observe(&mut self) -> Result<Observed, Error> {
        self.wire.send(b"survey\n").await;
        self.survey().await
    }

    async fn survey(&mut self) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        self.answer(&Limit::of(ASK), &mut |key, value| answer::observe(&mut observed, key, value)).await?;
        Ok(observed)
    }

    /// Connects to run a command line, as root. Nothing is run yet.
    ///
    /// # Errors
    /// [`Error::Wire`] with what the trouble comes down to.
    pub async fn prepare(ssh: &Ssh, target: &Target, command: &str) -> Result<Self, Error> {
        let mut session = Self::start(ssh, target, &one_command(command)).await?;
        session.answer(&Limit::of(ASK), &mut |_, _| {}).await?;
        Ok(session)
    }

    /// Runs the command line that was [prepared](Self::prepare), and gives its exit code and what it said, on its output
    /// and its errors alike.
    ///
    /// # Errors
    /// [`Error::Wire`] where its end could not be seen.
    pub async fn run(mut self) -> Result<Ran, Error> {
        self.wire.send(b"run\n").await;
        let (exit_code, output) = self.answer(&RUN, &mut |_, _| {}).await?;
        self.close().await;
        let cut = output.len() >= RUN.log;
        Ok(Ran { exit_code, output, cut })
    }

    /// Connects, and starts a program there.
    async fn start(ssh: &Ssh, target: &Target, program: &str) -> Result<Self, Error> {
        let mut wire = ssh.connect(target, &bootstrap(target, program.len()))?;
        wire.send(program.as_bytes()).await;
        let deadline = Instant::now() + GREET;
        let mut chatter = 0;
        // A login script may leave a line without an end before the greeting.
        while !wire.line(deadline).await?.ends_with(GREETING) {
            chatter += 1;
            if chatter > MAX_CHATTER {
                return Err(wire.trouble(Trouble::Garbled, "it prints without end").into());
            }
        }
        match wire.line(deadline).await?.strip_prefix("user ") {
            Some("0") => Ok(Self { wire }),
            Some(user) => {
                Err(wire.trouble(Trouble::NoRoot, &format!("it runs commands as user {user}")).into())
            }
            None => Err(wire.trouble(Trouble::Garbled, "it does not say who it is").into()),
        }
    }

    /// Which of these paths the host does not have, in their order.
    ///
    /// # Errors
    /// [`Error::Import`] where it can't say.
    pub async fn missing(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, Error> {
        self.which_are_missing("missing", paths, ASK).await
    }

    /// Lets the host fetch these paths, so many bytes, from its own caches, as far as they have them in good time, and says
    /// which it still does not have, in their order.
    ///
    /// # Errors
    /// [`Error::Import`] where it can't say.
    pub async fn substitute(&mut self, paths: &[StorePath], bytes: u64) -> Result<Vec<StorePath>, Error> {
        let limit = SUBSTITUTE + Duration::from_secs(bytes / LEAST_RATE);
        self.which_are_missing(&format!("substitute {}", limit.as_secs()), paths, limit + ASK).await
    }

    async fn which_are_missing(
        &mut self,
        verb: &str,
        paths: &[StorePath],
        limit: Duration,
    ) -> Result<Vec<StorePath>, Error> {
        let mut missing = Vec::new();
        for some in paths.chunks(PATHS_AT_ONCE) {
            let lines: String = some.iter().map(|path| format!("{path}\n")).collect();
            self.wire.send(format!("{verb} {}\n{lines}", some.len()).as_bytes()).await;
            let mut named = HashSet::new();
            let mut take = |key: &str, value: &str| {
                if key == "path" {
                    named.insert(value.to_owned());
                }
            };
            match self.answer(&Limit::of(limit), &mut take).await? {
                // It gets what it was asked about and lacks, whatever else it names.
                (0, _) => missing.extend(some.iter().filter(|path| named.contains(path.as_str())).cloned()),
                (_, log) => return Err(Error::Import(why(&log))),
            }
        }
        Ok(missing)
    }

    /// The generations that the host could go back to.
    ///
    /// # Errors
    /// [`Error::Wire`] where it does not say.
    pub async fn generations(&mut self) -> Result<Generations, Error> {
        self.wire.send(b"generations\n").await;
        let (mut all, mut present) = (Vec::new(), None);
        let mut take = |key: &str, value: &str| match key {
            "present" => present = value.parse().ok(),
            "generation" => all.extend(answer::generation(value)),
            _ => {}
        };
        self.answer(&Limit::of(ASK), &mut take).await?;
        Ok(Generations::new(all, present))
    }

    /// Begins to hand over paths: what is [passed](Self::pass) then is the input of a `nix-store --serve --write`, with a
    /// command that it does not know at its end. `answer` is how many bytes it answers where it has taken all.
    pub async fn import(&mut self, answer: u64) {
        self.wire.widen();
        self.wire.send(format!("import {answer}\n").as_bytes()).await;
    }

    /// Passes some of the bytes. False where the host has stopped taking them: why is in its
    /// [answer](Self::imported).
    pub async fn pass(&mut self, bytes: &[u8]) -> bool {
        self.wire.send(bytes).await;
        self.wire.is_open()
    }

    /// Waits until the host has registered what it was sent.
    ///
    /// # Errors
    /// [`Error::Import`] where it says no.
    pub async fn imported(&mut self) -> Result<(), Error> {
        match self.answer(&Limit::of(IMPORT), &mut |_, _| {}).await? {
            (0, _) => Ok(()),
            (_, log) => Err(Error::Import(why(&log))),
        }
    }

    /// Activates the toplevel as far as the goal says. It goes on to its end on the host, whatever happens to this
    /// session.
    ///
    /// # Errors
    /// [`Error::Start`] where it did not begin; [`Error::Wire`] where its end could not be seen.
    pub async fn activate(&mut self, goal: Goal) -> Result<Activation, Error> {
        let words: Vec<_> = steps(goal).iter().map(|step| step.word()).collect();
        self.wire.send(format!("activate {}\n", words.join(" ")).as_bytes()).await;
        let (code, log) = self.answer(&Limit::of(ACTIVATION + ASK), &mut |_, _| {}).await?;
        if code != 0 {
            return Err(Error::Start(why(&log)));
        }
        let mut results = Vec::new();
        let mut unreadable = None;
        self.wire.send(b"results\n").await;
        let (_, said) = self
            .answer(&Limit::of(ASK), &mut |key, value| match (key, answer::result(value)) {
                ("result", Ok(result)) => results.push(result),
                ("result", Err(error)) => unreadable = Some(error),
                _ => {}
            })
            .await?;
        match unreadable {
            Some(error) => Err(self.wire.trouble(Trouble::Garbled, &error.to_string()).into()),
            None => Ok(Activation { results, log: said }),
        }
    }

    /// Ends the session.
    pub async fn close(self) {
        self.wire.close().await;
    }

    /// Reads one answer to its end: hands out its facts, gives its exit code and what was said.
    async fn answer(
        &mut self,
        limit: &Limit,
        fact: &mut (dyn FnMut(&str, &str) + Send),
    ) -> Result<(i32, String), Error> {
        let deadline = Instant::now() + limit.time;
        let mut log = String::new();
        for _ in 0..limit.lines {
            let text = self.wire.line(deadline).await?;
            if text.is_empty() {
                continue;
            }
            match answer::line(&text) {
                Ok(Line::Done(code)) => return Ok((code, log)),
                Ok(Line::Log(line)) if log.len() < limit.log => {
                    log.push_str(line);
                    log.push('\n');
                }
                Ok(Line::Log(_)) => {}
                Ok(Line::Fact(key, value)) => fact(key, value),
                Err(error) => return Err(self.wire.trouble(Trouble::Garbled, &error.to_string()).into()),
            }
        }
        Err(self.wire.trouble(Trouble::Garbled, "an answer without end").into())
    }
}

/// Why a program failed, on one line: its last error with what it says of it, or else its last line.
fn why(log: &str) -> String {
    const LONGEST: usize = 500;
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error:"));
    let from = error.unwrap_or(lines.len().saturating_sub(1));
    let text = lines.get(from..).unwrap_or_default().join(" ");
    match text.strip_prefix("error:").unwrap_or(&text).trim() {
        "" => "it said nothing".into(),
        text => text.chars().take(LONGEST).collect(),
    }
}

/// The host's side of the session.
pub(crate) fn program(toplevel: Option<&StorePath>) -> String {
    let toplevel = quote(toplevel.map_or("", StorePath::as_str));
    let (limit, activation) = (ACTIVATION.as_secs(), quote(ACTIVATE));
    format!("toplevel={toplevel}\nlimit={limit}\nactivation={activation}\n{PRELUDE}{SESSION}")
}

/// The host's side of one command.
pub(crate) fn one_command(command: &str) -> String {
    format!("command={}\n{PRELUDE}{EXEC}", quote(command))
}

/// The command that reads the program from the connection and runs it, as root. It is short, and means the same to all of
/// POSIX's shells and to fish, as long as no word of `privilege` has a quote in it.
fn bootstrap(target: &Target, length: usize) -> String {
    let escalation: String = target.privilege.0.iter().map(|word| format!("{} ", quote(word))).collect();
    let become_root = if escalation.is_empty() {
        String::new()
    } else {
        format!("if [ \"$(id -u)\" -ne 0 ]; then set -- {escalation}; fi; ")
    };
    let path = "PATH=$PATH:/run/current-system/sw/bin:/usr/bin:/bin";
    let read = format!("{path}; eval \"$(head -c {length})\"");
    format!(
        "exec /bin/sh -c {}",
        quote(&format!("{path}; {become_root}exec \"$@\" /bin/sh -c {}", quote(&read)))
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use bosco_model::Privilege;

    use super::*;

    fn target(privilege: &[&str]) -> Target {
        Target {
            host: "web".into(),
            user: None,
            port: None,
            ssh_options: Vec::new(),
            privilege: Privilege(privilege.iter().map(ToString::to_string).collect()),
        }
    }

    /// What a login shell makes of the command, with `program` on its input.
    fn run(shell: &str, target: &Target, program: &str) -> String {
        let mut child = Command::new(shell)
            .args(["-c", &bootstrap(target, program.len())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_failure_is_told_with_all_that_its_last_error_says() {
        let log = "copying\nerror: hash mismatch importing path 'x';\n         specified: a\n         got:       b\n";
        assert_eq!(why(log), "hash mismatch importing path 'x'; specified: a got:       b");
        assert_eq!(why("Unit x was already loaded.\n\n"), "Unit x was already loaded.");
        assert_eq!(why(""), "it said nothing");
    }

    #[test]
    fn the_program_reaches_the_hosts_shell_whatever_is_in_it() {
        let program = "printf '%s\\n' \"it's $((1 + 1))\" '\\' 'a  b'\nprintf 'c\\n'";
        for shell in ["sh", "bash"] {
            assert_eq!(run(shell, &target(&[]), program), "it's 2\n\\\na  b\nc\n", "{shell}");
        }
    }

    #[test]
    fn systemd_finds_nothing_to_expand_in_the_activation() {
        // It replaces `${NAME}`, and makes `$` of `$$`, in the command lines of units.
        assert!(!ACTIVATE.contains("${") && !ACTIVATE.contains("$$"), "systemd would change activate.sh");
    }

    #[test]
    fn all_programs_are_shell_that_can_be_read() {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        for text in [program(Some(&toplevel)), ACTIVATE.to_owned(), one_command("it's")] {
            let mut child = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        }
    }
}

//! One Nix process: how it is started, listened to and limited.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Version;
use crate::message;

/// The most that is read of a process's answer: the metadata of a closure of a million paths is below it.
const MAX_ANSWER: u64 = 512 * 1024 * 1024;
/// The most that is kept of what a process says beside its answer, in bytes.
const MAX_LOG: usize = 1024 * 1024;

/// The signal of a Ctrl-C.
const SIGINT: i32 = 2;

/// Why Nix did not do what it was asked to.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// There is no such program.
    #[error("`{program}` was not found")]
    Missing {
        /// What was looked for.
        program: String,
    },
    /// It could not be started or listened to.
    #[error("could not run `{program}`: {why}")]
    Process {
        /// What was started.
        program: String,
        /// What the system said.
        why: String,
    },
    /// It is older than [`Version::OLDEST`].
    #[error("the Nix here is {found}, bosco needs {} or newer", Version::OLDEST)]
    TooOld {
        /// What it is.
        found: Version,
    },
    /// It ended with an error.
    #[error("{message}")]
    Failed {
        /// Nix's own error, cut to what matters.
        message: String,
        /// All that it said, as far as kept.
        log: String,
    },
    /// The operator stopped it, as a Ctrl-C at the terminal does.
    #[error("it was stopped from here")]
    Stopped,
    /// What the fleet's source says is not a fleet that bosco can read.
    #[error("{why}")]
    Fleet {
        /// What is wrong with it.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// It ended well and answered something that could not be read.
    #[error("`{program}` gave an answer that can't be read: {why}")]
    Answer {
        /// What was asked.
        program: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("install Nix (https://nixos.org/download), or add it to PATH".to_owned())
            }
            Self::TooOld { .. } => Some("upgrade Nix: `nix upgrade-nix`, or a newer NixOS".to_owned()),
            Self::Failed { message, .. } => message::hint(message).map(str::to_owned),
            Self::Fleet { hint, .. } => Some(hint.clone()),
            Self::Answer { .. } => Some("a Nix that bosco does not know? `nix --version` tells".to_owned()),
            Self::Process { .. } | Self::Stopped => None,
        }
    }
}

/// Something that a Nix process said while it worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLine {
    /// A warning for the user.
    Warning(String),
    /// So many derivations will be built.
    ToBuild(usize),
    /// So many paths will be fetched from caches, with the size of the download as Nix writes it.
    ToFetch(usize, String),
    /// The derivation of this name is being built.
    Building(String),
    /// The path of this name is being fetched.
    Fetching(String),
    /// Anything else: what a builder prints, what is fetched.
    Progress(String),
}

/// How the operator wants Nix to work.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Errors of evaluations come with all of their trace.
    pub trace: bool,
    /// Evaluations may read what is not of the flake.
    pub impure: bool,
    /// Settings of Nix, each a name and a value.
    pub options: Vec<(String, String)>,
}

/// As Nix works by itself.
pub(crate) static USUAL: Settings = Settings { trace: false, impure: false, options: Vec::new() };

/// Proof that there is a Nix that is new enough, and the one way to start its processes.
#[derive(Debug, Clone, Copy)]
pub struct Nix {
    /// There is one for as long as the program runs.
    pub(crate) settings: &'static Settings,
}

impl Nix {
    /// Looks for Nix in PATH.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::TooOld`].
    pub async fn find(settings: Settings) -> Result<Self, Error> {
        let mut command = Command::new("nix");
        command.arg("--version");
        let answer = run(command, None, &mut |_| {}).await?;
        let text = String::from_utf8_lossy(&answer);
        let Some(version) = Version::parse(&text) else {
            return Err(Error::Answer {
                program: "nix --version".into(),
                why: text.chars().take(100).collect(),
            });
        };
        if version < Version::OLDEST {
            return Err(Error::TooOld { found: version });
        }
        Ok(Self { settings: Box::leak(Box::new(settings)) })
    }

    /// `nix VERB …` in `dir`, with flakes on whatever the user's nix.conf says.
    pub(crate) fn nix(&self, verb: &str, dir: &Path) -> Command {
        let mut command = Command::new("nix");
        command.args(["--extra-experimental-features", "nix-command flakes", verb]).current_dir(dir);
        for (name, value) in &self.settings.options {
            command.args(["--option", name, value]);
        }
        command
    }

    /// `nix-store …`.
    #[allow(clippy::unused_self)] // Only who has found Nix can start it.
    pub(crate) fn store<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("nix-store");
        command.args(args);
        command
    }
}

/// Starts a process that ends with this one's interest in it: dropping the child kills it. It shares the terminal, to ask
/// for a passphrase where an input of the flake needs one.
pub(crate) fn spawn(mut command: Command, stdin: Stdio) -> Result<Child, Error> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.kill_on_drop(true).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { program },
        _ => Error::Process { program, why: source.to_string() },
    })
}

/// Runs a process to its end: gives what it answered, tells what it says meanwhile. `dir` is where the fleet is, for
/// its files to be called by the names that the user knows.
pub(crate) async fn run(
    command: Command,
    dir: Option<&Path>,
    listen: &mut (dyn FnMut(LogLine) + Send),
) -> Result<Vec<u8>, Error> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = spawn(command, Stdio::null())?;
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (answer, log) = tokio::join!(read_answer(stdout), read_log(stderr, listen));
    let status = child.wait().await;
    finish(&program, dir, status, &log?)?;
    answer.map_err(|error| Error::Process { program, why: error.to_string() })
}

/// Turns the end of a process into a result.
pub(crate) fn finish(
    program: &str,
    dir: Option<&Path>,
    status: io::Result<ExitStatus>,
    log: &str,
) -> Result<(), Error> {
    let status =
        status.map_err(|error| Error::Process { program: program.to_owned(), why: error.to_string() })?;
    if status.success() {
        return Ok(());
    }
    if status.signal() == Some(SIGINT)
        || log.lines().any(|line| line.trim() == "error: interrupted by the user")
    {
        return Err(Error::Stopped);
    }
    let message = match message::essence(log) {
        text if text.is_empty() => format!("`{program}` ended with {status} and said nothing"),
        text => {
            let is_ours = |file: &str| dir.is_some_and(|dir| dir.join(file).exists());
            let text = message::with_names_of_the_user(&text, &is_ours);
            let mut said = message::surroundings(&text, log, &is_ours);
            said.insert(0, text);
            said.join("\n")
        }
    };
    Err(Error::Failed { message, log: log.to_owned() })
}

async fn read_answer(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        if answer.len() as u64 == MAX_ANSWER {
            return Err(io::Error::other(format!("it answered more than {MAX_ANSWER} bytes")));
        }
    }
    Ok(answer)
}

/// Reads what a process says, keeping its last megabyte; no line makes it hold more.
pub(crate) async fn read_log(
    stream: Option<impl AsyncRead + Unpin>,
    listen: &mut (dyn FnMut(LogLine) + Send),
) -> Result<String, Error> {
    let mut log = String::new();
    let Some(stream) = stream else { return Ok(log) };
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(64 * 1024).read_until(b'\n', &mut line).await;
        if read.map_err(|error| Error::Process { program: "nix".into(), why: error.to_string() })? == 0 {
            return Ok(log);
        }
        let line = message::plain(String::from_utf8_lossy(&line).trim_end());
        if log.len() + line.len() > MAX_LOG {
            let half = log.len() / 2;
            let cut = (half..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
            log.drain(..cut);
        }
        log.push_str(&line);
        log.push('\n');
        if let Some(told) = message::classify(&line) {
            listen(told);
        }
    }
}

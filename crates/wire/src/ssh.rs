//! One connection: the operator's own `ssh`, with a command at its other end.

use std::ffi::OsString;
use std::io;
use std::io::IsTerminal;
use std::process::Stdio;
use std::time::Duration;

use bosco_model::Target;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::process::Process;
use crate::{Error, Trouble};

/// How long `ssh` tries to reach a host. Also the limit of what a firewall that drops everything can cost.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection is given up after this many unanswered questions whether it still lives.
const ALIVE_COUNT: u32 = 3;
/// How long between two of those questions.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The longest line of an answer, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// How much the pipe to `ssh` holds, in bytes: the most that everybody may ask for.
#[cfg(target_os = "linux")]
const PIPE: usize = 1024 * 1024;
/// How long the other side may take for what it is sent at once: Nix writes one path to a slow disk before it reads the next.
const STALL: Duration = Duration::from_secs(600);

/// How connections are made: with the operator's own `ssh`.
#[derive(Debug, Clone)]
pub struct Ssh {
    config: Option<OsString>,
    batch: bool,
    /// Whether a connection that `ssh` keeps open for the operator must not be used.
    fresh: bool,
    /// Whether there is no `ssh`: this machine is the host.
    here: bool,
}

/// A connection, with a command at its other end: bytes go to its input, lines come from its output.
#[derive(Debug)]
pub struct Wire {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Ssh {
    /// Looks for `ssh` in PATH. `SSH_CONFIG_FILE` names the configuration, as for Colmena; where no terminal is there to
    /// answer, `ssh` must not ask.
    ///
    /// # Errors
    /// [`Trouble::NoSsh`].
    pub async fn find() -> Result<Self, Error> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match ssh.status().await {
            Ok(_) => {
                let (config, batch) = (std::env::var_os("SSH_CONFIG_FILE"), !io::stdin().is_terminal());
                Ok(Self { config, batch, fresh: false, here: false })
            }
            Err(_) => Err(Error::new(Trouble::NoSsh, "", "")),
        }
    }

    /// In the place of `ssh`, a shell on this machine.
    #[must_use]
    pub fn here() -> Self {
        Self { config: None, batch: false, fresh: false, here: true }
    }

    /// Whether it is this machine that is reached.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.here
    }

    /// The same, but every connection is one of its own, whatever the operator's ssh shares.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { fresh: true, ..self.clone() }
    }

    /// The `ssh` of a person who wants to be on a host, or to run a command there as `ssh` runs it.
    #[must_use]
    pub fn login(&self, target: &Target, command: &[String]) -> std::process::Command {
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(self.of_the_fleet(target));
        // Without a command it has one anyway.
        if !command.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal() {
            ssh.arg("-t");
        }
        ssh.args(address(target)).args(command);
        ssh
    }

    /// The options that come first: the operator's configuration, then those of the fleet.
    fn of_the_fleet(&self, target: &Target) -> Vec<OsString> {
        self.configuration().chain(target.ssh_options.iter().map(OsString::from)).collect()
    }

    /// The way to a host, as arguments.
    pub(crate) fn way(&self, target: &Target) -> Vec<OsString> {
        self.of_the_fleet(target).into_iter().chain(address(target)).collect()
    }

    /// The operator's configuration, where it is not the usual one.
    pub(crate) fn configuration(&self) -> impl Iterator<Item = OsString> {
        self.config.iter().flat_map(|config| ["-F".into(), config.clone()])
    }

    /// What every connection of bosco's has, as options: what comes first wins.
    pub(crate) fn settings(&self) -> impl Iterator<Item = OsString> {
        let ours = [
            format!("ConnectTimeout={}", CONNECT.as_secs()),
            format!("ServerAliveInterval={}", ALIVE_INTERVAL.as_secs()),
            format!("ServerAliveCountMax={ALIVE_COUNT}"),
            // What the operator has set up for their own sessions has no place in this one.
            "RemoteCommand=none".into(),
            "PermitLocalCommand=no".into(),
        ];
        let batch = self.batch.then(|| "BatchMode=yes".to_owned());
        ours.into_iter().chain(batch).flat_map(|option| ["-o".into(), option.into()])
    }

    /// The arguments of `ssh` for a command on a host. What comes first wins: the fleet's own options over ours.
    fn arguments(&self, target: &Target, command: &str) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        if self.fresh {
            // Before all others: what comes first wins.
            args.extend(["-o".into(), "ControlMaster=no".into(), "-o".into(), "ControlPath=none".into()]);
        }
        args.extend(self.of_the_fleet(target));
        args.extend(self.settings());
        args.extend(["-o".into(), "ClearAllForwardings=yes".into()]);
        // No terminal, no agent and no display for the other side.
        args.extend(["-T".into(), "-a".into(), "-x".into()]);
        args.extend(address(target));
        args.push(command.into());
        args
    }

    /// Starts a connection with `command` at its other end. It is there when the first line comes.
    ///
    /// # Errors
    /// Where `ssh` can't be started; all other trouble is told by what is read.
    pub fn connect(&self, target: &Target, command: &str) -> Result<Wire, Error> {
        let (program, arguments) = if self.here {
            ("/bin/sh", vec!["-c".into(), command.into()])
        } else {
            ("ssh", self.arguments(target, command))
        };
        let (process, stdin, stdout) = Process::start(program, arguments, target.display())?;
        Ok(Wire { process, stdin: Some(stdin), stdout: BufReader::new(stdout) })
    }
}

/// Whom to reach.
fn address(target: &Target) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    if let Some(port) = target.port {
        args.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = &target.user {
        args.extend(["-l".into(), user.into()]);
    }
    // `--`, so that no name is read as an option.
    args.extend(["--".into(), target.host.clone().into()]);
    args
}

impl Wire {
    /// Makes the pipe to `ssh` hold more, for much to be sent: those at its ends wait for each other less often.
    pub fn widen(&self) {
        // Where that is not allowed, it works all the same.
        #[cfg(target_os = "linux")]
        if let Some(stdin) = &self.stdin {
            let _ = rustix::pipe::fcntl_setpipe_size(stdin, PIPE);
        }
    }

    /// Sends bytes. A connection that is gone, or takes nothing any more, is told by the next [`line`](Self::line), which
    /// knows why.
    pub async fn send(&mut self, mut bytes: &[u8]) {
        let deadline = Instant::now() + STALL;
        while !bytes.is_empty() {
            let Some(stdin) = &mut self.stdin else { return };
            match timeout_at(deadline, stdin.write(bytes)).await {
                Ok(Ok(written @ 1..)) => bytes = bytes.get(written..).unwrap_or_default(),
                _ => self.stdin = None,
            }
        }
    }

    /// The next line of the answer, without its end and without control characters; what is too long of it is cut off.
    ///
    /// # Errors
    /// Where none comes before the deadline, or none can come any more.
    pub async fn line(&mut self, deadline: Instant) -> Result<String, Error> {
        let mut line = Vec::new();
        let reading = read_line(&mut self.stdout, &mut line);
        match timeout_at(deadline, reading).await {
            Err(_) => Err(self.trouble(Trouble::Silent, "")),
            Ok(Ok(true)) => Ok(printable(&line)),
            Ok(_) => Err(self.process.gone().await),
        }
    }

    /// The next line of the answer, as [`line`](Self::line) gives it; `None` where the other side says `sign` beside it
    /// before that.
    ///
    /// # Errors
    /// Where neither comes before the deadline, or can come any more.
    pub async fn line_or(&mut self, sign: &str, deadline: Instant) -> Result<Option<String>, Error> {
        let mut line = Vec::new();
        let first = timeout_at(deadline, async {
            tokio::select! {
                read = read_line(&mut self.stdout, &mut line) => Some(read),
                () = self.process.says(sign) => None,
            }
        });
        match first.await {
            Err(_) => Err(self.trouble(Trouble::Silent, "")),
            Ok(None) => Ok(None),
            Ok(Some(Ok(true))) => Ok(Some(printable(&line))),
            Ok(Some(_)) => Err(self.process.gone().await),
        }
    }

    /// Whether the other side still takes what it is sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stdin.is_some()
    }

    /// Trouble with this connection.
    #[must_use]
    pub fn trouble(&self, trouble: Trouble, said: &str) -> Error {
        self.process.trouble(trouble, said)
    }

    /// Ends the connection: the command at the other end reads the end of its input.
    pub async fn close(mut self) {
        self.stdin = None;
        self.process.end().await;
    }
}

/// A line without control characters.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Reads up to the end of a line, keeping at most [`MAX_LINE`] bytes of it. False where the stream ends before.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let available = stream.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let text = &available[..end.unwrap_or(available.len())];
        line.extend_from_slice(&text[..text.len().min(MAX_LINE - line.len())]);
        let used = end.map_or(available.len(), |end| end + 1);
        stream.consume(used);
        if end.is_some() {
            if line.len() == MAX_LINE {
                line.extend_from_slice("…".as_bytes());
            }
            return Ok(true);
        }
    }
}

/// A text as one word of a POSIX shell.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use bosco_model::Privilege;

    use super::*;

    #[test]
    fn the_fleets_own_options_come_first_and_no_name_is_read_as_an_option() {
        let ssh = Ssh { config: Some("/etc/lab".into()), batch: true, fresh: false, here: false };
        let target = Target {
            host: "-oProxyCommand=touch /tmp/x".into(),
            user: Some("root".into()),
            port: Some(2222),
            ssh_options: vec!["-o".into(), "ConnectTimeout=60".into()],
            privilege: Privilege::default(),
        };
        let args: Vec<_> =
            ssh.arguments(&target, "true").into_iter().map(|arg| arg.into_string().unwrap()).collect();
        assert_eq!(args[..4], ["-F", "/etc/lab", "-o", "ConnectTimeout=60"]);
        assert_eq!(args[args.len() - 3..], ["--", "-oProxyCommand=touch /tmp/x", "true"]);
        assert!(args.windows(2).any(|pair| pair == ["-p", "2222"]), "{args:?}");
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let text = format!("{}\nnext\nrest", "x".repeat(3 * MAX_LINE));
        let mut stream = BufReader::new(text.as_bytes());
        let (mut long, mut next, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        assert!(read_line(&mut stream, &mut long).await.unwrap());
        assert_eq!(long.len(), MAX_LINE + "…".len(), "what is cut is marked");
        assert!(read_line(&mut stream, &mut next).await.unwrap());
        assert_eq!(next, b"next");
        assert!(!read_line(&mut stream, &mut rest).await.unwrap(), "a line that is not ended is none");
    }

    #[test]
    fn a_quoted_text_is_one_word() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}

//! One connection: the operator's own `ssh`, with a command at its other end.

use std::ffi::OsString;
use std::io;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosco_model::Target;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Error, Trouble};

/// How long `ssh` tries to reach a host. Also the limit of what a firewall that drops everything can cost.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection is given up after this many unanswered questions whether it still lives.
const ALIVE_COUNT: u32 = 3;
/// How long between two of those questions.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The longest line of an answer, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// The most that is kept of what `ssh` says beside the answer, in bytes.
const MAX_SAID: usize = 64 * 1024;
/// The signal of a Ctrl-C.
const SIGINT: i32 = 2;
/// How long a closed connection may take to end.
const CLOSE: Duration = Duration::from_secs(5);

/// How connections are made: with the operator's own `ssh`.
#[derive(Debug, Clone)]
pub struct Ssh {
    config: Option<OsString>,
    batch: bool,
}

/// A connection, with a command at its other end: bytes go to its input, lines come from its output.
#[derive(Debug)]
pub struct Wire {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    said: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
    target: String,
}

impl Ssh {
    /// From the environment: `SSH_CONFIG_FILE` names the configuration, as for Colmena; where no terminal is there to
    /// answer, `ssh` must not ask.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { config: std::env::var_os("SSH_CONFIG_FILE"), batch: !io::stdin().is_terminal() }
    }

    /// The arguments of `ssh` for a command on a host. What comes first wins: the fleet's own options over ours.
    fn arguments(&self, target: &Target, command: &str) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        if let Some(config) = &self.config {
            args.extend(["-F".into(), config.clone()]);
        }
        args.extend(target.ssh_options.iter().map(OsString::from));
        let ours = [
            format!("ConnectTimeout={}", CONNECT.as_secs()),
            format!("ServerAliveInterval={}", ALIVE_INTERVAL.as_secs()),
            format!("ServerAliveCountMax={ALIVE_COUNT}"),
            // What the operator has set up for their own sessions with the host has no place in this one.
            "ClearAllForwardings=yes".into(),
            "RemoteCommand=none".into(),
            "PermitLocalCommand=no".into(),
        ];
        for option in ours {
            args.extend(["-o".into(), option.into()]);
        }
        if self.batch {
            args.extend(["-o".into(), "BatchMode=yes".into()]);
        }
        // No terminal, no agent and no display for the other side.
        args.extend(["-T".into(), "-a".into(), "-x".into()]);
        if let Some(port) = target.port {
            args.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = &target.user {
            args.extend(["-l".into(), user.into()]);
        }
        // `--`, so that no name is read as an option.
        args.extend(["--".into(), target.host.clone().into(), command.into()]);
        args
    }

    /// Starts a connection with `command` at its other end. It is there when the first line comes.
    ///
    /// # Errors
    /// Where `ssh` can't be started; all other trouble is told by what is read.
    pub fn connect(&self, target: &Target, command: &str) -> Result<Wire, Error> {
        let display = target.display();
        let mut ssh = Command::new("ssh");
        ssh.args(self.arguments(target, command))
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(Trouble::NoSsh, &display, ""),
            _ => Error::new(Trouble::Other, &display, &error.to_string()),
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::new(Trouble::Other, &display, "it has no input or output"));
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::spawn(listen(stderr, Arc::clone(&said)));
        Ok(Wire {
            child,
            stdin: Some(stdin),
            stdout: BufReader::new(stdout),
            said,
            listener,
            target: display,
        })
    }
}

/// Keeps what `ssh` says; its last words are what counts.
async fn listen(mut stderr: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..read]);
        if said.len() > MAX_SAID {
            let excess = said.len() - MAX_SAID;
            said.drain(..excess);
        }
    }
}

impl Wire {
    /// Sends bytes. A connection that is gone is told by the next [`line`](Self::line), which knows why.
    pub async fn send(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin
            && (stdin.write_all(bytes).await.is_err() || stdin.flush().await.is_err())
        {
            self.stdin = None;
        }
    }

    /// Sends a whole stream, telling how many bytes are through. False where the other side stopped taking it.
    ///
    /// # Errors
    /// Where the stream itself can't be read.
    pub async fn send_all(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        sent: &mut (dyn FnMut(u64) + Send),
    ) -> io::Result<bool> {
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(true);
            }
            self.send(&buffer[..read]).await;
            if self.stdin.is_none() {
                return Ok(false);
            }
            total += read as u64;
            sent(total);
        }
    }

    /// The next line of the answer, without its end.
    ///
    /// # Errors
    /// Where none comes within `limit`, or none can come any more.
    pub async fn line(&mut self, limit: Duration) -> Result<String, Error> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stdout).take(MAX_LINE);
        match timeout(limit, limited.read_until(b'\n', &mut line)).await {
            Err(_) => Err(Error::new(Trouble::NoAnswer, &self.target, "")),
            Ok(Ok(_)) if line.last() == Some(&b'\n') => {
                line.pop();
                Ok(String::from_utf8_lossy(&line).into_owned())
            }
            Ok(Ok(read)) if read as u64 == MAX_LINE => Err(self.garbled("a line without end")),
            Ok(_) => Err(self.gone().await),
        }
    }

    /// An answer that can't be read.
    #[must_use]
    pub fn garbled(&self, why: &str) -> Error {
        Error::new(Trouble::Garbled, &self.target, why)
    }

    /// Why the connection ended.
    async fn gone(&mut self) -> Error {
        // Its last words may still be on the way.
        let _ = timeout(CLOSE, &mut self.listener).await;
        // A Ctrl-C at the terminal reaches `ssh` too, which must share the terminal to ask for a passphrase.
        if let Ok(Ok(status)) = timeout(CLOSE, self.child.wait()).await
            && status.signal() == Some(SIGINT)
        {
            return Error::new(Trouble::Stopped, &self.target, "");
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        if said.trim().is_empty() {
            return Error::new(Trouble::Lost, &self.target, "");
        }
        Error::read(&self.target, &said)
    }

    /// Ends the connection: the command at the other end reads the end of its input.
    pub async fn close(mut self) {
        self.stdin = None;
        let _ = timeout(CLOSE, self.child.wait()).await;
    }
}

/// A text as one word of a shell, POSIX's or fish's.
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
        let ssh = Ssh { config: Some("/etc/lab".into()), batch: true };
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

    #[test]
    fn a_quoted_text_is_one_word() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}

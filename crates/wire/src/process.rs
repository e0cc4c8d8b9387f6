//! A process of the operator's `ssh`: its streams, and why it ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Error, Trouble};

/// The most that is kept of what `ssh` says beside the answer, in bytes.
const MAX_SAID: usize = 64 * 1024;
/// The signal of a Ctrl-C.
const SIGINT: i32 = 2;
/// How long after `ssh` bosco may hear of a Ctrl-C.
const INTERRUPT: Duration = Duration::from_millis(200);
/// How long a closed connection may take to end.
const CLOSE: Duration = Duration::from_secs(5);

/// What it says beside the answer.
#[derive(Debug, Default)]
struct Said {
    text: Mutex<Vec<u8>>,
    more: Notify,
}

/// An `ssh` that runs. It ends with the value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: Arc<Said>,
    listener: JoinHandle<()>,
    target: String,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(
        program: &str,
        arguments: Vec<OsString>,
        target: String,
    ) -> Result<(Self, ChildStdin, ChildStdout), Error> {
        let mut ssh = Command::new(program);
        ssh.args(arguments)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(Trouble::NoSsh, &target, ""),
            _ => Error::new(Trouble::Other, &target, &error.to_string()),
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::new(Trouble::Other, &target, "it has no input or output"));
        };
        let said = Arc::new(Said::default());
        let listener = tokio::spawn(listen(stderr, Arc::clone(&said)));
        Ok((Self { child, said, listener, target }, stdin, stdout))
    }

    /// Trouble with this connection.
    pub(crate) fn trouble(&self, trouble: Trouble, said: &str) -> Error {
        Error::new(trouble, &self.target, said)
    }

    /// Why it ended.
    pub(crate) async fn gone(&mut self) -> Error {
        // Its last words may still be on the way.
        let _ = timeout(CLOSE, &mut self.listener).await;
        // A Ctrl-C at the terminal reaches `ssh` too, which must share the terminal to ask for a passphrase.
        if let Ok(Ok(status)) = timeout(CLOSE, self.child.wait()).await
            && status.signal() == Some(SIGINT)
        {
            return Error::new(Trouble::Stopped, &self.target, "");
        }
        let said = {
            let said = self.said.text.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&said).into_owned()
        };
        if said.trim().is_empty() {
            // So does an `ssh` end that a Ctrl-C has reached. Whoever waits here is dropped then: bosco hears of it at
            // the same time.
            sleep(INTERRUPT).await;
            return Error::new(Trouble::Lost, &self.target, "");
        }
        Error::read(&self.target, &said)
    }

    /// Waits until it has said this beside the answer, and forgets what it has said up to its end: so the next one is
    /// another. It can be given up at any time.
    pub(crate) async fn says(&self, sign: &str) {
        loop {
            // Whoever asks before it looks misses nothing that is said in between.
            let more = self.said.more.notified();
            {
                let mut said = self.said.text.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(start) = said.windows(sign.len()).position(|some| some == sign.as_bytes()) {
                    said.drain(..start + sign.len());
                    return;
                }
            }
            more.await;
        }
    }

    /// Waits for it, once its input has ended.
    pub(crate) async fn end(&mut self) {
        let _ = timeout(CLOSE, self.child.wait()).await;
    }
}

/// Keeps what `ssh` says; its last words are what counts.
async fn listen(mut stderr: impl AsyncRead + Unpin, said: Arc<Said>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        {
            let mut text = said.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.extend_from_slice(&buffer[..read]);
            if text.len() > MAX_SAID {
                let excess = text.len() - MAX_SAID;
                text.drain(..excess);
            }
        }
        // Nobody waits, or one does, who finds it at once if it begins to wait only now.
        said.more.notify_one();
    }
}

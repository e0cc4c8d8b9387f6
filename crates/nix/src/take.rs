//! Taking paths into the store here, from whoever has their archives.
//!
//! One process, `nix-store --serve --write`, is asked what is there, and is given what is not. It holds all paths that it was
//! asked about, there or not yet: garbage collection leaves them for as long as it lives.

use std::collections::{HashMap, HashSet};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use bosco_model::StorePath;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[cfg(target_os = "linux")]
use crate::closure::PIPE;
use crate::closure::PathInfo;
use crate::command::{USUAL, finish, read_log, spawn};
use crate::serve::{self, Message, Verb};
use crate::{Error, Nix};

/// What is asked, for errors.
const PROGRAM: &str = "nix-store --serve --write";
/// How long a question to Nix's database may take on a slow machine.
const ASK: Duration = Duration::from_secs(300);
/// How long Nix may take for a piece of an archive, or to register a path: it waits for locks and for the disk.
const TAKE: Duration = Duration::from_secs(600);
/// How many paths go into one question: few enough for the pipes at both ends.
const PATHS_AT_ONCE: usize = 400;

/// The store here, open to take paths.
#[derive(Debug)]
pub struct Taking {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: JoinHandle<Result<String, Error>>,
}

impl Nix {
    /// A Nix of whatever version, for what needs no evaluation: all that a host has speaks the serve protocol.
    #[must_use]
    pub fn of_host() -> Self {
        Self { settings: &USUAL }
    }

    /// Opens the store here, to take paths.
    ///
    /// # Errors
    /// Where `nix-store` can't be started, or says something else.
    pub async fn take(&self) -> Result<Taking, Error> {
        let mut child = spawn(self.store(["--serve", "--write"]), Stdio::piped())?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Process { program: PROGRAM.into(), why: "it has no input or output".into() });
        };
        // Its ends wait for each other less often. Where that is not allowed, it works all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE);
        let stderr = child.stderr.take();
        let log = tokio::spawn(async move { read_log(stderr, &mut |_| {}).await });
        let mut taking = Taking { child, stdin, stdout: BufReader::new(stdout), log };
        match limited(ASK, taking.greet()).await {
            Ok(()) => Ok(taking),
            Err(error) => Err(taking.ended(&error).await),
        }
    }

    /// Lets Nix fetch paths from its own caches, as far as they have them within `limit`.
    ///
    /// # Errors
    /// Where `nix-store` can't be started. That the caches have nothing is none.
    pub async fn substitute(&self, paths: &[StorePath], limit: Duration) -> Result<(), Error> {
        // Few enough for a program's arguments.
        const ARGUMENTS: usize = 5_000;
        let fetch = async {
            for some in paths.chunks(ARGUMENTS) {
                let mut command = self.store(["--realise", "--ignore-unknown", "--keep-going"]);
                command.args([
                    "--option",
                    "connect-timeout",
                    "5",
                    "--option",
                    "stalled-download-timeout",
                    "30",
                ]);
                command.args(["--option", "download-attempts", "2"]).args(some.iter().map(StorePath::as_str));
                match crate::command::run(command, None, &mut |_| {}).await {
                    Ok(_) | Err(Error::Failed { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(limit, fetch).await.unwrap_or(Ok(()))
    }
}

impl Taking {
    async fn greet(&mut self) -> io::Result<()> {
        self.stdin.write_all(&Message::hello().0).await?;
        serve::hello(&mut self.stdout).await
    }

    /// Which of these paths are not there, in their order. All of them are held from here on.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words; nothing is held any more then.
    pub async fn missing(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, Error> {
        let mut missing = Vec::new();
        for some in paths.chunks(PATHS_AT_ONCE) {
            match limited(ASK, self.valid(some)).await {
                Ok(valid) => {
                    let lacks = |path: &&StorePath| !valid.contains(path.as_str());
                    missing.extend(some.iter().filter(lacks).cloned());
                }
                Err(error) => return Err(self.ended(&error).await),
            }
        }
        Ok(missing)
    }

    async fn valid(&mut self, paths: &[StorePath]) -> io::Result<HashSet<String>> {
        // It is to lock them, and not to fetch them.
        let asked = Message::default().verb(Verb::QueryValidPaths).number(1).number(0);
        self.stdin.write_all(&asked.texts(paths.iter().map(StorePath::as_str)).0).await?;
        Ok(serve::texts(&mut self.stdout).await?.into_iter().collect())
    }

    /// What the store knows of paths; those that are not there are left out.
    ///
    /// # Errors
    /// As for [`Self::missing`].
    pub async fn infos(&mut self, paths: &[StorePath]) -> Result<HashMap<StorePath, PathInfo>, Error> {
        let mut infos = HashMap::new();
        for some in paths.chunks(PATHS_AT_ONCE) {
            match limited(ASK, self.known(some)).await {
                Ok(known) => infos.extend(known.into_iter().map(|info| (info.path.clone(), info))),
                Err(error) => return Err(self.ended(&error).await),
            }
        }
        Ok(infos)
    }

    async fn known(&mut self, paths: &[StorePath]) -> io::Result<Vec<PathInfo>> {
        let asked = Message::default().verb(Verb::QueryPathInfos).texts(paths.iter().map(StorePath::as_str));
        self.stdin.write_all(&asked.0).await?;
        PathInfo::read_all(&mut self.stdout, paths.len()).await
    }

    /// Begins with a path, which is not there and whose references are. Its archive is [passed](Self::pass) then, to the last
    /// byte.
    ///
    /// # Errors
    /// As for [`Self::missing`].
    pub async fn begin(&mut self, info: &PathInfo) -> Result<(), Error> {
        self.pass(&info.head().0).await
    }

    /// Passes some of an archive.
    ///
    /// # Errors
    /// As for [`Self::missing`].
    pub async fn pass(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match limited(TAKE, self.stdin.write_all(bytes)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.ended(&error).await),
        }
    }

    /// Waits until the path whose archive was passed is there: Nix has compared its hash.
    ///
    /// # Errors
    /// As for [`Self::missing`].
    pub async fn taken(&mut self) -> Result<(), Error> {
        match limited(TAKE, serve::number(&mut self.stdout)).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(self.ended(&io::Error::other("it did not take the path")).await),
            Err(error) => Err(self.ended(&error).await),
        }
    }

    async fn ended(&mut self, error: &io::Error) -> Error {
        // It says why before it ends, where it ends by itself.
        let ended = timeout(Duration::from_secs(5), self.child.wait()).await;
        let _ = self.child.start_kill();
        let status = match ended {
            Ok(status) => status,
            Err(_) => self.child.wait().await,
        };
        let log = (&mut self.log).await.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default();
        match finish(PROGRAM, None, status, &log) {
            Err(failed @ Error::Failed { .. }) if !log.trim().is_empty() => failed,
            _ => Error::Failed { message: format!("`{PROGRAM}`: {error}"), log },
        }
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::Error::other("it takes too long")))
}

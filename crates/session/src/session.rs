//! An operator's session with one host: one connection, which answers what the host is before anything is asked, and
//! carries everything after that.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bosco_activation::{Request, Told};
use bosco_model::{
    Digest, Generations, Observed, Profile, ProfilePlace, Profiles, StorePath, System, Target,
};
use bosco_wire::{Trouble, Wire, quote};
use thiserror::Error;
use tokio::time::Instant;

use crate::answer::{self, Line};
use crate::begin::{Operator, begin};
use crate::follow::{Following, Heard, MAX_LOG, Stage, Unended, why};
use crate::system;

const PRELUDE: &str = include_str!("prelude.sh");
const SESSION: &str = include_str!("session.sh");
const MEND: &str = include_str!("mend.sh");
const EXEC: &str = include_str!("exec.sh");
const CONFIRM: &str = include_str!("confirm.sh");

/// What Nix and its database say where the disk is full.
const NO_SPACE: [&str; 3] = ["No space left", "disk is full", "signal 7"];

/// How many lines one answer may have: every path that one question names, with room for a log.
const MAX_LINES: usize = 50_000;
/// How many lines a system may have that is described: a large one has 20,000.
const MAX_DESCRIBED: usize = 500_000;
/// How many paths go into one question: few enough for a program's arguments, and for an answer that fits into the
/// connection's buffers while the question is still being sent.
const PATHS_AT_ONCE: usize = 5_000;

/// How long a question to Nix's database may take on a slow machine.
const ASK: Duration = Duration::from_secs(120);
/// How long a host may take to find out that its caches have nothing.
const SUBSTITUTE: Duration = Duration::from_secs(60);
/// How many bytes a second a host's caches have to send, or the rest comes from here.
const LEAST_RATE: u64 = 256 * 1024;
/// How long the host may take to register what it was sent, after the last byte.
const IMPORT: Duration = Duration::from_secs(600);
/// How long `switch-to-configuration dry-activate` may take; the host ends it then.
const DRY: Duration = Duration::from_secs(300);
/// How long an activation may be followed: the longest that a host may be told to take, and an hour.
const FOLLOW: Duration = Duration::from_secs(25 * 3600);

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
    /// What it was to build does not build there.
    #[error("it does not build there: {0}")]
    Build(String),
    /// A damaged path could not be mended.
    #[error("{0}")]
    Repair(String),
    /// The host did not take its secrets.
    #[error("it did not take its secrets: {0}")]
    Secrets(String),
    /// The activation could not be started.
    #[error("the activation could not be started: {0}")]
    Start(String),
    /// The activation is under way, and could not be followed.
    #[error("the activation could not be followed: {0}")]
    Follow(String),
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
            Self::Secrets(_) => Some("that is what the host says; nothing was activated".into()),
            Self::Import(_) => {
                Some("that is what Nix there says; `bosco apply` again once it is mended".into())
            }
            Self::Follow(_) => Some("it goes on there; `bosco status` says how it ended".into()),
            Self::Repair(_) | Self::Build(_) => None,
            Self::Start(_) => Some("that is what the host says; nothing was activated".into()),
        }
    }
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

/// What a host is to get, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The system.
    pub toplevel: Option<&'a StorePath>,
    /// What goes beside it.
    pub others: Others<'a>,
    /// The helper that carries its activation out.
    pub helper: Option<&'a StorePath>,
}

/// The profiles that a host has, or is to have, beside its system.
#[derive(Debug, Clone, Copy, Default)]
pub enum Others<'a> {
    /// None.
    #[default]
    None,
    /// These, whatever they are.
    Named(&'a [Profile]),
    /// What they are to be.
    Wanted(&'a Profiles),
}

/// An open session with a host.
#[derive(Debug)]
pub struct Session {
    wire: Wire,
}

impl Session {
    /// Connects, and brings back what the host says of itself: one connection, and one round trip beyond it.
    ///
    /// # Errors
    /// [`Error::Wire`] with what the trouble comes down to.
    pub async fn open(
        operator: &Operator,
        target: &Target,
        wanted: Wanted<'_>,
    ) -> Result<(Self, Observed), Error> {
        let mut session = Self { wire: begin(operator, target, &program(wanted)).await? };
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
    pub async fn prepare(operator: &Operator, target: &Target, command: &str) -> Result<Self, Error> {
        let mut session = Self { wire: begin(operator, target, &one_command(command)).await? };
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

    /// The generations that the host could go back to: of its system, and of the other profiles that it was asked about.
    ///
    /// # Errors
    /// [`Error::Wire`] where it does not say.
    pub async fn generations(&mut self) -> Result<(Generations, Vec<(Profile, Generations)>), Error> {
        self.wire.send(b"generations\n").await;
        let mut listed = answer::Listed::default();
        self.answer(&Limit::of(ASK), &mut |key, value| listed.take(key, value)).await?;
        Ok(listed.generations())
    }

    /// Builds a derivation there, which it has with all that it needs.
    ///
    /// # Errors
    /// [`Error::Build`] with what Nix there says.
    pub async fn build(&mut self, derivation: &StorePath) -> Result<(), Error> {
        self.wire.send(format!("build {derivation}\n").as_bytes()).await;
        match self.answer(&RUN, &mut |_, _| {}).await? {
            (0, _) => Ok(()),
            (_, log) => Err(Error::Build(log.trim().to_owned())),
        }
    }

    /// The units that are active there.
    ///
    /// # Errors
    /// [`Error::Wire`] where it does not say.
    pub async fn active(&mut self) -> Result<BTreeSet<String>, Error> {
        self.wire.send(b"active\n").await;
        let mut units = BTreeSet::new();
        let mut take = |_: &str, value: &str| units.extend(system::unit(value));
        self.answer(&Limit::of(ASK), &mut take).await?;
        Ok(units)
    }

    /// What runs there, for who does not have it: its closure and its units. `None` where it can't say.
    ///
    /// # Errors
    /// [`Error::Wire`] where it does not answer.
    pub async fn describe(&mut self, current: &StorePath) -> Result<Option<System>, Error> {
        self.wire.send(b"describe\n").await;
        let mut said = system::Said::default();
        let limit = Limit { lines: MAX_DESCRIBED, ..Limit::of(ASK) };
        let (code, _) = self.answer(&limit, &mut |key, value| said.take(key, value)).await?;
        Ok(if code == 0 { said.system(current) } else { None })
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

    /// Begins to mend a damaged path: so many bytes of its archive are [passed](Self::pass) then.
    pub async fn repair(&mut self, path: &StorePath, size: u64) {
        self.wire.widen();
        self.wire.send(format!("repair {path} {size}\n").as_bytes()).await;
    }

    /// Waits until the path is as Nix there knows it.
    ///
    /// # Errors
    /// [`Error::Repair`] where it is as damaged as before. The session has ended then.
    pub async fn repaired(&mut self) -> Result<(), Error> {
        match self.answer(&Limit::of(IMPORT), &mut |_, _| {}).await? {
            (0, _) => Ok(()),
            (_, log) => Err(Error::Repair(why(&log))),
        }
    }

    /// Hands over a bundle of secrets, which is ciphertext, for the host to keep.
    ///
    /// # Errors
    /// [`Error::Secrets`] where it does not take them. The session has ended then.
    pub async fn secrets(&mut self, digest: Digest, bundle: &[u8]) -> Result<(), Error> {
        self.wire.widen();
        self.wire.send(format!("secrets {digest} {}\n", bundle.len()).as_bytes()).await;
        self.wire.send(bundle).await;
        let (code, log) = self.answer(&Limit::of(IMPORT), &mut |_, _| {}).await?;
        if code == 0 { Ok(()) } else { Err(Error::Secrets(why(&log))) }
    }

    /// Says what an activation would do, and does nothing.
    ///
    /// # Errors
    /// [`Error::Start`] where it fails.
    pub async fn dry_activate(&mut self) -> Result<String, Error> {
        self.wire.send(b"dry-activate\n").await;
        match self.answer(&Limit::of(DRY + ASK), &mut |_, _| {}).await? {
            (0, log) => Ok(log),
            (_, log) => Err(Error::Start(why(&log))),
        }
    }

    /// Has the host reboot.
    ///
    /// # Errors
    /// [`Error::Start`] where it says no. That the connection is lost is no error.
    pub async fn reboot(&mut self) -> Result<(), Error> {
        self.wire.send(b"reboot\n").await;
        match self.answer(&Limit::of(ASK), &mut |_, _| {}).await {
            Ok((0, _)) | Err(Error::Wire(_)) => Ok(()),
            Ok((_, log)) => Err(Error::Start(why(&log))),
            Err(error) => Err(error),
        }
    }

    /// Has the host activate what is asked for, and follows that until it ends or wants a fresh connection. It goes on to
    /// its end on the host, whatever happens to this session.
    ///
    /// # Errors
    /// [`Error::Start`] where it did not begin; [`Error::Wire`] where it could not be followed any more.
    pub async fn activate(
        &mut self,
        request: &Request,
        tell: &mut (dyn FnMut(&Told) + Send),
    ) -> Result<Stage, Error> {
        let text = serde_json::to_string(request).map_err(|error| Error::Start(error.to_string()))?;
        self.wire.send(format!("activate {text}\n").as_bytes()).await;
        self.follow(tell).await
    }

    /// Connects anew, which is what an activation waits for; `token` is what it has asked for. What it says then is
    /// [followed](Self::confirmed).
    ///
    /// # Errors
    /// [`Error::Wire`] where there is no connection.
    pub async fn anew(
        operator: &Operator,
        target: &Target,
        helper: &StorePath,
        id: &str,
        token: Option<&str>,
    ) -> Result<Self, Error> {
        // A connection that the operator's ssh has kept open proves nothing.
        let program = confirmation(helper, id, token);
        let mut session = Self { wire: begin(&operator.fresh(), target, &program).await? };
        session.answer(&Limit::of(ASK), &mut |_, _| {}).await?;
        Ok(session)
    }

    /// Follows the activation that this connection was made for, until it ends or wants something else.
    ///
    /// # Errors
    /// [`Error::Follow`] or [`Error::Wire`] where it could not be followed any more.
    pub async fn confirmed(mut self, tell: &mut (dyn FnMut(&Told) + Send)) -> Result<Stage, Error> {
        // It ends with the value: the host may have more to tell than is waited for.
        match self.follow(tell).await {
            Err(Error::Start(why)) => Err(Error::Follow(why)),
            stage => stage,
        }
    }

    async fn follow(&mut self, tell: &mut (dyn FnMut(&Told) + Send)) -> Result<Stage, Error> {
        let deadline = Instant::now() + FOLLOW;
        let mut following = Following::default();
        for _ in 0..MAX_LINES {
            let text = self.wire.line(deadline).await?;
            match following.line(&text, tell) {
                Ok(Some(Heard::Stage(stage))) => return Ok(stage),
                Ok(Some(Heard::Done)) => {
                    return following.end().map_err(|unended| match unended {
                        Unended::Lost(why) => Error::Follow(why),
                        Unended::NotBegun(why) => Error::Start(why),
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(self.wire.trouble(Trouble::Garbled, &error.to_string()).into()),
            }
        }
        Err(self.wire.trouble(Trouble::Garbled, "an answer without end").into())
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

/// The host's side of the session.
pub(crate) fn program(wanted: Wanted<'_>) -> String {
    let word = |path: Option<&StorePath>| quote(path.map_or("", StorePath::as_str));
    let (toplevel, helper) = (word(wanted.toplevel), word(wanted.helper));
    let (limit, mend) = (DRY.as_secs(), quote(MEND));
    let line = |profile: &Profile, path: Option<&StorePath>| {
        let place = profile.place.as_ref().map_or("-", ProfilePlace::as_str);
        format!("{} {} {place} {}", profile.user, profile.name, path.map_or("-", StorePath::as_str))
    };
    let (lines, only) = match wanted.others {
        Others::None => (Vec::new(), false),
        Others::Named(named) => (named.iter().map(|profile| line(profile, None)).collect(), false),
        Others::Wanted(Profiles { all, only }) => {
            (all.iter().map(|one| line(&one.profile, Some(&one.path))).collect(), *only)
        }
    };
    let (others, system) = (quote(&lines.join("\n")), word(wanted.toplevel.filter(|_| !only)));
    format!(
        "toplevel={toplevel}\nsystem={system}\nothers={others}\nhelper={helper}\nlimit={limit}\nmend={mend}\n{PRELUDE}{SESSION}"
    )
}

/// The host's side of a fresh connection.
fn confirmation(helper: &StorePath, id: &str, token: Option<&str>) -> String {
    let (helper, id, token) = (quote(helper.as_str()), quote(id), quote(token.unwrap_or_default()));
    format!("helper={helper}\nid={id}\ntoken={token}\n{PRELUDE}{CONFIRM}")
}

/// The host's side of one command.
pub(crate) fn one_command(command: &str) -> String {
    format!("command={}\n{PRELUDE}{EXEC}", quote(command))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn all_programs_are_shell_that_can_be_read() {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let wanted = Wanted { toplevel: Some(&toplevel), helper: Some(&toplevel), others: Others::None };
        for text in [program(wanted), confirmation(&toplevel, "1", Some("x")), one_command("it's")] {
            let mut child = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        }
    }
}

//! The way from source to report, driven by an operator: evaluate, build, deliver, activate.
//!
//! Hosts are evaluated and asked what they run side by side, then all that is lacking is built at once, then they are
//! delivered to side by side; nothing is delivered if one of them could not be evaluated or built. A host keeps its one
//! connection from the first question to the last.

use std::collections::HashSet;
use std::sync::Arc;

use bosco_activation::{Plan, judge, plan};
use bosco_host::Session;
use bosco_model::{Declaration, Goal, HostName, Observed, StorePath};
use bosco_nix::Root;
use bosco_wire::{Ssh, Trouble};
use tokio::sync::Semaphore;

use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed, listen};
use crate::outcome::Outcome;

/// How many connections are made at once: more would run into sshd's `MaxStartups` on a shared jump host.
pub(crate) const CONNECTIONS: usize = 50;
/// How many hosts are copied to at once.
const COPIES: usize = 10;

/// A push under way.
#[derive(Clone)]
pub(crate) struct Push {
    context: Context,
    goal: Goal,
    ssh: Ssh,
    root: Arc<Root>,
    connections: Arc<Semaphore>,
    copies: Arc<Semaphore>,
}

/// A host that something is to be done for.
struct Wanted {
    declared: Declaration,
    /// Its connection, where the goal delivers.
    session: Option<Session>,
    /// Whether it has its toplevel already.
    there: bool,
}

impl Push {
    pub(crate) fn new(context: Context, goal: Goal, root: Root) -> Self {
        Self {
            context,
            goal,
            ssh: Ssh::from_environment(),
            root: Arc::new(root),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            copies: Arc::new(Semaphore::new(COPIES)),
        }
    }

    /// Brings the chosen hosts to the goal, and gives what came of each, in the order of their names.
    pub(crate) async fn run(&self, chosen: Vec<Chosen>) -> Vec<(HostName, Outcome)> {
        let asked = each(chosen, |chosen| {
            let push = self.clone();
            async move { push.ask(chosen).await }
        })
        .await;
        let mut ended = Vec::new();
        let mut wanted = Vec::new();
        for host in asked {
            match host {
                Ok(Some(host)) => wanted.push(host),
                Ok(None) => {}
                Err(outcome) => ended.push(outcome),
            }
        }

        let (built, unbuilt) = self.build(wanted).await;
        ended.extend(unbuilt);
        let not_ready: Vec<_> =
            ended.iter().filter(|(_, o)| is_unbuilt(o)).map(|(name, _)| name.clone()).collect();
        let deliver = not_ready.is_empty();
        if !deliver && self.goal.delivers() && !built.is_empty() {
            (self.context.events)(Event::HeldBack { failed: not_ready });
        }

        ended.extend(
            each(built, |host| {
                let push = self.clone();
                async move { push.deliver(host, deliver).await }
            })
            .await,
        );
        ended.sort_by(|(a, _), (b, _)| a.cmp(b));
        ended
    }

    /// Source to an open connection, where something is to be delivered. `None` where the host is not selected; `Err`
    /// is how it ended already, not always badly.
    async fn ask(&self, chosen: Chosen) -> Result<Option<Wanted>, (HostName, Outcome)> {
        let end = |outcome| self.context.end(&chosen.name, outcome);
        let Some(declared) = self.context.declaration(&chosen).await.map_err(end)? else { return Ok(None) };
        if !self.goal.delivers() {
            return Ok(Some(Wanted { declared, session: None, there: false }));
        }
        self.enter(&declared, Stage::Connect);
        let (session, observed) = {
            let _permit = self.connections.acquire().await;
            connect(&self.ssh, &declared).await.map_err(end)?
        };
        let outcome = match plan(self.goal, &declared, &observed) {
            Plan::Deliver => {
                self.enter(&declared, Stage::Wait);
                return Ok(Some(Wanted { declared, session: Some(session), there: observed.has_toplevel }));
            }
            Plan::Nothing => Outcome::UpToDate,
            Plan::Refuse(refusal) => {
                Outcome::failed(Stage::Connect, refusal.to_string(), Some(refusal.hint().to_owned()))
            }
        };
        session.close().await;
        Err(end(outcome))
    }

    /// Builds what is lacking, and parts the hosts that have their toplevel from those that could not be built.
    async fn build(&self, wanted: Vec<Wanted>) -> (Vec<Wanted>, Vec<(HostName, Outcome)>) {
        let (mut built, lacking): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|host| host.there);
        for host in &lacking {
            self.enter(&host.declared, Stage::Build);
        }
        let declared: Vec<&Declaration> = lacking.iter().map(|host| &host.declared).collect();
        let mut listen = listen(&self.context.events, None);
        let dir = &self.context.fleet.source.dir;
        let results = self.context.nix.build(&declared, &self.root, dir, &mut listen).await;
        let mut unbuilt = Vec::new();
        for (host, result) in lacking.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    if self.goal.delivers() {
                        self.enter(&host.declared, Stage::Wait);
                    }
                    built.push(host);
                }
                Err(error) => {
                    unbuilt.push(self.context.end(&host.declared.host.name, failed(Stage::Build, &error)));
                    if let Some(session) = host.session {
                        session.close().await;
                    }
                }
            }
        }
        (built, unbuilt)
    }

    /// Built to reported.
    async fn deliver(&self, host: Wanted, deliver: bool) -> (HostName, Outcome) {
        let Wanted { declared, session, .. } = host;
        let outcome = match session {
            None => Outcome::Built { toplevel: declared.toplevel.clone() },
            Some(mut session) => {
                let outcome = if deliver {
                    self.copy_and_activate(&declared, &mut session).await.unwrap_or_else(|outcome| outcome)
                } else {
                    Outcome::HeldBack
                };
                session.close().await;
                outcome
            }
        };
        self.context.end(&declared.host.name, outcome)
    }

    async fn copy_and_activate(
        &self,
        declared: &Declaration,
        session: &mut Session,
    ) -> Result<Outcome, Outcome> {
        {
            let _permit = self.copies.acquire().await;
            self.enter(declared, Stage::Copy);
            self.copy(declared, session).await?;
        }
        if self.goal == Goal::Push {
            return Ok(Outcome::Pushed);
        }
        self.enter(declared, Stage::Activate);
        let activation =
            session.activate(self.goal).await.map_err(|error| troubled(Stage::Activate, &error))?;
        Ok(Outcome::of(self.goal, judge(self.goal, &activation.results), activation.log))
    }

    /// Hands over the paths that the host lacks.
    async fn copy(&self, declared: &Declaration, session: &mut Session) -> Result<(), Outcome> {
        let here = |error: bosco_nix::Error| failed(Stage::Copy, &error);
        let there = |error: bosco_host::Error| troubled(Stage::Copy, &error);
        let nix = &self.context.nix;
        // What the host had already was not built here.
        let Ok(closure) = nix.closure(&declared.toplevel).await else {
            return match session.missing(std::slice::from_ref(&declared.toplevel)).await.map_err(there)? {
                missing if missing.is_empty() => Ok(()),
                _ => {
                    Err(Outcome::failed(Stage::Copy, "its toplevel is neither here nor there any more", None))
                }
            };
        };
        let paths: Vec<StorePath> = closure.paths.iter().map(|(path, _)| path.clone()).collect();
        let missing = session.missing(&paths).await.map_err(there)?;
        if missing.is_empty() {
            return Ok(());
        }
        let lacks: HashSet<&StorePath> = missing.iter().collect();
        let of = closure.paths.iter().filter(|(path, _)| lacks.contains(path)).map(|(_, size)| size).sum();
        let tell = |bytes| {
            let (host, paths) = (declared.host.name.clone(), missing.len());
            (self.context.events)(Event::Copied { host, paths, bytes, of });
        };
        tell(0);
        let mut export = nix.export(&missing).map_err(here)?;
        let imported = session.import(&mut export.stream, &mut |bytes| tell(bytes)).await;
        // Where both ends complain, the host's complaint is the consequence of a broken export, or its cause; it is
        // the one that names the host's trouble.
        imported.map_err(there)?;
        export.finish().await.map_err(here)
    }

    fn enter(&self, declared: &Declaration, stage: Stage) {
        (self.context.events)(Event::Stage { host: declared.host.name.clone(), stage });
    }
}

/// Connects to a host and brings back what it says of itself.
pub(crate) async fn connect(ssh: &Ssh, declared: &Declaration) -> Result<(Session, Observed), Outcome> {
    let Some(target) = &declared.host.target else { return Err(Outcome::LocalOnly) };
    Session::open(ssh, target, &declared.toplevel).await.map_err(|error| troubled(Stage::Connect, &error))
}

/// An error of a session as what came of the host.
fn troubled(stage: Stage, error: &bosco_host::Error) -> Outcome {
    match error {
        bosco_host::Error::Wire(wire) if stage == Stage::Connect && wire.trouble.is_offline() => {
            Outcome::Offline { reason: error.to_string(), hint: error.hint() }
        }
        bosco_host::Error::Wire(wire) if wire.trouble == Trouble::Stopped => Outcome::Interrupted { stage },
        _ => Outcome::failed(stage, error.to_string(), error.hint()),
    }
}

fn is_unbuilt(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { stage: Stage::Evaluate | Stage::Build, .. })
}

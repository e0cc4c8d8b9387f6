//! The way from source to report, driven by an operator: evaluate, build, deliver, activate.
//!
//! Up to *build* each host goes on by itself. Then all wait for one another: nothing is delivered if one of them could
//! not be evaluated or built. A host keeps its one connection from the first question to the last.

use std::collections::HashSet;
use std::sync::Arc;

use bosco_activation::{Plan, judge, plan};
use bosco_host::Session;
use bosco_model::{Declaration, Goal, HostName, Observed, StorePath};
use bosco_nix::Root;
use bosco_wire::Ssh;
use tokio::sync::Semaphore;

use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed, listen};
use crate::outcome::Outcome;

/// How many connections are made at once: more would run into sshd's `MaxStartups` on a shared jump host.
pub(crate) const CONNECTIONS: usize = 50;
/// How many builds Nix is asked for at once; each shares its own limits with the others.
const BUILDS: usize = 8;
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
    builds: Arc<Semaphore>,
    copies: Arc<Semaphore>,
}

/// How far a host has come before anything is delivered.
enum Prepared {
    /// It is not selected.
    NotSelected,
    /// There is nothing more to do.
    Ended((HostName, Outcome)),
    /// It is built, and its connection is open.
    Ready(Box<Declaration>, Box<Session>),
}

impl Push {
    pub(crate) fn new(context: Context, goal: Goal, root: Root) -> Self {
        Self {
            context,
            goal,
            ssh: Ssh::from_environment(),
            root: Arc::new(root),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            builds: Arc::new(Semaphore::new(BUILDS)),
            copies: Arc::new(Semaphore::new(COPIES)),
        }
    }

    /// Brings the chosen hosts to the goal. What came of each is told by events; here it comes together.
    pub(crate) async fn run(&self, chosen: Vec<Chosen>) -> Vec<(HostName, Outcome)> {
        let prepared = each(chosen, |chosen| {
            let push = self.clone();
            async move { push.prepare(chosen).await }
        })
        .await;

        let mut ended = Vec::new();
        let mut ready = Vec::new();
        for host in prepared {
            match host {
                Prepared::NotSelected => {}
                Prepared::Ended(host) => ended.push(host),
                Prepared::Ready(declared, session) => ready.push((declared, session)),
            }
        }
        let unbuilt: Vec<HostName> =
            ended.iter().filter(|(_, o)| is_unbuilt(o)).map(|(n, _)| n.clone()).collect();
        let deliver = unbuilt.is_empty();
        if !deliver && !ready.is_empty() {
            (self.context.events)(Event::HeldBack { failed: unbuilt });
        }
        ended.extend(
            each(ready, |(declared, session)| {
                let push = self.clone();
                async move {
                    let outcome = if deliver {
                        push.deliver(&declared, *session).await
                    } else {
                        session.close().await;
                        Outcome::HeldBack
                    };
                    push.context.end(&declared.host.name, outcome)
                }
            })
            .await,
        );
        ended.sort_by(|(a, _), (b, _)| a.cmp(b));
        ended
    }

    /// Source to built, and to an open connection where there is something to deliver.
    async fn prepare(&self, chosen: Chosen) -> Prepared {
        let declared = match self.context.declaration(&chosen).await {
            Ok(None) => return Prepared::NotSelected,
            Ok(Some(declared)) => declared,
            Err(outcome) => return Prepared::Ended(self.context.end(&chosen.name, outcome)),
        };
        match self.connect_and_build(&declared).await {
            Ok(session) => {
                self.enter(&declared, Stage::Wait);
                Prepared::Ready(Box::new(declared), Box::new(session))
            }
            Err(outcome) => Prepared::Ended(self.context.end(&declared.host.name, outcome)),
        }
    }

    /// Asks the host what it runs, and builds what it lacks. `Err` is an outcome, not always a bad one.
    async fn connect_and_build(&self, declared: &Declaration) -> Result<Session, Outcome> {
        if !self.goal.delivers() {
            self.build(declared).await?;
            return Err(Outcome::Built { toplevel: declared.toplevel.clone() });
        }
        self.enter(declared, Stage::Connect);
        let (session, observed) = {
            let _permit = self.connections.acquire().await;
            connect(&self.ssh, declared).await?
        };
        match plan(self.goal, declared, &observed) {
            Plan::Deliver => {}
            Plan::Nothing => {
                session.close().await;
                return Err(Outcome::UpToDate);
            }
            Plan::Refuse(refusal) => {
                session.close().await;
                let hint = Some(refusal.hint().to_owned());
                return Err(Outcome::failed(Stage::Connect, refusal.to_string(), hint));
            }
        }
        if !observed.has_toplevel {
            self.build(declared).await?;
        }
        Ok(session)
    }

    async fn build(&self, declared: &Declaration) -> Result<(), Outcome> {
        let _permit = self.builds.acquire().await;
        self.enter(declared, Stage::Build);
        let mut listen = listen(&self.context.events, Some(&declared.host.name));
        let dir = &self.context.fleet.source.dir;
        let built = self.context.nix.build(declared, &self.root, dir, &mut listen).await;
        built.map_err(|error| failed(Stage::Build, &error))
    }

    /// Built to reported.
    async fn deliver(&self, declared: &Declaration, mut session: Session) -> Outcome {
        let outcome = match self.copy_and_activate(declared, &mut session).await {
            Ok(outcome) | Err(outcome) => outcome,
        };
        session.close().await;
        outcome
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
        _ => Outcome::failed(stage, error.to_string(), error.hint()),
    }
}

fn is_unbuilt(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { stage: Stage::Evaluate | Stage::Build, .. })
}

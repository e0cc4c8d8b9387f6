//! The way from source to report, driven by an operator: evaluate, build, deliver, activate.
//!
//! Hosts are evaluated and asked what they run side by side, then all that is lacking is built at once, then they are
//! delivered to side by side; nothing is delivered if one of them could not be evaluated or built. A host that is slow to
//! answer goes the same way a little later, and can't hold back by then what went before. Each keeps its one connection
//! from the first question to the last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bosco_activation::{Plan, judge, plan, shortage};
use bosco_host::Session;
use bosco_model::{Declaration, Goal, HostName, Observed, StorePath};
use bosco_nix::Root;
use bosco_wire::{Ssh, Trouble};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed, listen};
use crate::outcome::Outcome;

/// How many connections are made at once.
pub(crate) const CONNECTIONS: usize = 50;
/// How long to wait before a connection that broke before the host spoke is tried again: a jump host that many pass at
/// once drops some of them (sshd's `MaxStartups`).
const TRY_AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(4)];
/// How long hosts that have answered wait for the next one that has not.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the progress of a copy is told.
const TELL: Duration = Duration::from_millis(250);
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
    /// What it said of itself, before anything was done to it.
    observed: Observed,
}

/// What came of asking a host: something is to be done for it, or it is not selected, or it has ended already.
type Asked = Result<Option<Wanted>, (HostName, Outcome)>;

/// The hosts that are being evaluated and asked.
struct Asking {
    tasks: JoinSet<Asked>,
    /// How many are not evaluated yet.
    evaluating: watch::Receiver<usize>,
}

impl Asking {
    /// The hosts that answer in time: once all are evaluated, the round ends where the next answer takes longer than the
    /// others' patience. `None` where nobody is left.
    async fn round(&mut self) -> Option<Vec<Asked>> {
        let mut round = Vec::new();
        loop {
            let next = tokio::select! {
                biased;
                next = self.tasks.join_next() => next,
                () = out_of_patience(self.evaluating.clone()), if !round.is_empty() => return Some(round),
            };
            match next {
                Some(Ok(asked)) => round.push(asked),
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => return (!round.is_empty()).then_some(round),
            }
        }
    }
}

async fn out_of_patience(mut evaluating: watch::Receiver<usize>) {
    // Where nobody counts any more, nobody is being evaluated.
    let _ = evaluating.wait_for(|left| *left == 0).await;
    tokio::time::sleep(PATIENCE).await;
}

impl Push {
    pub(crate) async fn new(context: Context, goal: Goal, root: Root) -> Result<Self, Error> {
        Ok(Self {
            context,
            goal,
            ssh: Ssh::find().await?,
            root: Arc::new(root),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            copies: Arc::new(Semaphore::new(COPIES)),
        })
    }

    /// Brings the chosen hosts to the goal, and gives what came of each, in the order of their names.
    ///
    /// Nothing is delivered where one of them could not be evaluated, or one that has answered could not be built. A host
    /// that is slow to answer keeps nobody waiting: it is built and delivered in a later round.
    pub(crate) async fn run(&self, chosen: Vec<Chosen>) -> Vec<(HostName, Outcome)> {
        let mut asking = self.ask_all(chosen);
        let mut ended = Vec::new();
        let mut deliver = true;
        while let Some(round) = asking.round().await {
            let mut wanted = Vec::new();
            for host in round {
                match host {
                    Ok(host) => wanted.extend(host),
                    Err(outcome) => ended.push(outcome),
                }
            }
            let (built, unbuilt) = self.build(wanted).await;
            ended.extend(unbuilt);
            let not_ready: Vec<_> =
                ended.iter().filter(|(_, o)| is_unbuilt(o)).map(|(name, _)| name.clone()).collect();
            deliver &= not_ready.is_empty();
            if !deliver && self.goal.delivers() && !built.is_empty() {
                (self.context.events)(Event::HeldBack { failed: not_ready });
            }
            let delivered = each(built, |host| {
                let push = self.clone();
                async move { push.deliver(host, deliver).await }
            });
            ended.extend(delivered.await);
        }
        ended.sort_by(|(a, _), (b, _)| a.cmp(b));
        ended
    }

    /// Begins to evaluate and ask all hosts.
    fn ask_all(&self, chosen: Vec<Chosen>) -> Asking {
        let left = Arc::new(watch::Sender::new(chosen.len()));
        let evaluating = left.subscribe();
        let mut tasks = JoinSet::new();
        for chosen in chosen {
            let (push, left) = (self.clone(), Arc::clone(&left));
            tasks.spawn(async move { push.ask(chosen, &left).await });
        }
        Asking { tasks, evaluating }
    }

    /// Source to an open connection, where something is to be delivered. `None` where the host is not selected; `Err`
    /// is how it ended already, not always badly.
    async fn ask(&self, chosen: Chosen, left: &watch::Sender<usize>) -> Asked {
        let end = |outcome| self.context.end(&chosen.name, outcome);
        let declared = self.context.declaration(&chosen).await;
        left.send_modify(|left| *left = left.saturating_sub(1));
        let Some(declared) = declared.map_err(end)? else { return Ok(None) };
        if !self.goal.delivers() {
            return Ok(Some(Wanted { declared, session: None, observed: Observed::default() }));
        }
        self.enter(&declared, Stage::Connect);
        let (session, observed) = {
            let _permit = self.connections.acquire().await;
            connect(&self.ssh, &declared).await.map_err(end)?
        };
        let outcome = match plan(self.goal, &declared, &observed) {
            Plan::Deliver => {
                self.enter(&declared, Stage::Wait);
                return Ok(Some(Wanted { declared, session: Some(session), observed }));
            }
            Plan::Nothing => Outcome::UpToDate { goal: self.goal },
            Plan::Refuse(refusal) => {
                Outcome::Refused { reason: refusal.to_string(), hint: refusal.hint().to_owned() }
            }
        };
        session.close().await;
        Err(end(outcome))
    }

    /// Builds what is lacking, and parts the hosts that have their toplevel from those that could not be built.
    async fn build(&self, wanted: Vec<Wanted>) -> (Vec<Wanted>, Vec<(HostName, Outcome)>) {
        let (mut built, lacking): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|host| host.observed.has_toplevel);
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
        let Wanted { declared, session, observed } = host;
        let outcome = match session {
            None => Outcome::Built { toplevel: declared.toplevel.clone() },
            Some(mut session) => {
                let outcome = if deliver {
                    self.copy_and_activate(&declared, &observed, &mut session)
                        .await
                        .unwrap_or_else(|outcome| outcome)
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
        observed: &Observed,
        session: &mut Session,
    ) -> Result<Outcome, Outcome> {
        {
            let _permit = self.copies.acquire().await;
            self.enter(declared, Stage::Copy);
            self.copy(declared, observed, session).await?;
        }
        if self.goal == Goal::Push {
            return Ok(Outcome::Pushed);
        }
        self.enter(declared, Stage::Activate);
        let activation =
            session.activate(self.goal).await.map_err(|error| troubled(Stage::Activate, &error))?;
        let ending = judge(self.goal, &activation.results, &activation.log);
        Ok(Outcome::of(self.goal, ending, activation.log))
    }

    /// Hands over the paths that the host lacks.
    async fn copy(
        &self,
        declared: &Declaration,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let nix_says = |error: bosco_nix::Error| failed(Stage::Copy, &error);
        let host_says = |error: bosco_host::Error| troubled(Stage::Copy, &error);
        let nix = &self.context.nix;
        // What the host had already was not built, and need not be here.
        let paths = if observed.has_toplevel {
            vec![(declared.toplevel.clone(), 0)]
        } else {
            nix.closure(&declared.toplevel).await.map_err(nix_says)?.paths
        };
        let sizes: HashMap<&StorePath, u64> = paths.iter().map(|(path, size)| (path, *size)).collect();
        let names: Vec<StorePath> = paths.iter().map(|(path, _)| path.clone()).collect();
        let missing = session.missing(&names).await.map_err(host_says)?;
        if missing.is_empty() {
            return Ok(());
        }
        let of: u64 = missing.iter().filter_map(|path| sizes.get(path)).sum();
        if let Some(shortage) = shortage(observed, of) {
            let hint = "`nix-collect-garbage --delete-older-than 30d` there frees what old generations need";
            return Err(Outcome::failed(Stage::Copy, shortage.to_string(), Some(hint.into())));
        }
        let tell = |bytes: u64| {
            let (host, paths) = (declared.host.name.clone(), missing.len());
            (self.context.events)(Event::Copied { host, paths, bytes: bytes.min(of), of });
        };
        tell(0);
        let (mut told, mut before) = (Instant::now(), 0);
        for portion in Session::portions(&missing) {
            let mut bytes = 0;
            let mut export = nix.export(portion).map_err(nix_says)?;
            let mut sent = |portion_bytes| {
                bytes = portion_bytes;
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    tell(before + bytes);
                }
            };
            session.import(&mut export.stream, &mut sent).await.map_err(host_says)?;
            // First of all what went wrong here: the host would wait for the rest of a broken stream. But where it has
            // stopped taking it, the export ends with a broken pipe, and the host knows why.
            let exported = export.finish().await;
            match exported {
                Err(error) if session.is_open() => return Err(nix_says(error)),
                _ => session.imported().await.map_err(host_says)?,
            }
            before += bytes;
        }
        tell(before);
        Ok(())
    }

    fn enter(&self, declared: &Declaration, stage: Stage) {
        (self.context.events)(Event::Stage { host: declared.host.name.clone(), stage });
    }
}

/// Connects to a host and brings back what it says of itself.
pub(crate) async fn connect(ssh: &Ssh, declared: &Declaration) -> Result<(Session, Observed), Outcome> {
    let Some(target) = &declared.host.target else { return Err(Outcome::LocalOnly) };
    let mut waits = TRY_AGAIN.iter();
    loop {
        match Session::open(ssh, target, &declared.toplevel).await {
            Err(bosco_host::Error::Wire(error)) if error.trouble == Trouble::Lost => match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(troubled(Stage::Connect, &error.into())),
            },
            answer => return answer.map_err(|error| troubled(Stage::Connect, &error)),
        }
    }
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
    use Outcome::{Failed, Interrupted};
    matches!(outcome, Failed { stage, .. } | Interrupted { stage } if matches!(stage, Stage::Evaluate | Stage::Build))
}

//! The way from source to report, driven by an operator: evaluate, ask, build, deliver, activate.
//!
//! Each host goes its way by itself, over one connection that it keeps from the first question to the last. They meet at
//! two places: what is to be built goes to Nix together (`builds`), and nothing is delivered where one could not be
//! evaluated or built (`gate`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosco_activation::{Plan, Refusal, judge, plan, shortage};
use bosco_host::Session;
use bosco_model::{Declaration, Goal, HostName, Observed, StorePath, Target};
use bosco_nix::{PathInfo, Root, Store};
use tokio::sync::Semaphore;

use crate::builds::{Builds, builds};
use crate::error::Error;
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed};
use crate::gate::{Gate, Place, Rule};
use crate::outcome::Outcome;
use crate::reach::{Reach, troubled};

/// How old what a host said of itself may be before it is asked again.
const FRESH: Duration = Duration::from_secs(10);
/// How often the progress of a copy is told.
const TELL: Duration = Duration::from_millis(250);
/// How many hosts are copied to at once.
const COPIES: usize = 10;
/// How many bytes of paths that a cache has signed a host has to lack before it is told to look in its own caches first:
/// fewer are there sooner from here.
const SUBSTITUTE: u64 = 1024 * 1024;
/// How much is read and sent at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// What an operator wants done.
pub(crate) struct Wish {
    pub(crate) goal: Goal,
    /// When hosts may be delivered to.
    pub(crate) rule: Rule,
}

/// Hosts by name or address, port, and options of ssh: the same address can be another machine behind another jump host.
type Targets = HashMap<(String, Option<u16>, Vec<String>), BTreeSet<HostName>>;

/// What all hosts of a push share.
#[derive(Clone)]
struct Push {
    context: Context,
    goal: Goal,
    reach: Reach,
    builds: Builds,
    gate: Arc<Gate>,
    copies: Arc<Semaphore>,
    /// Who is reached where.
    targets: Arc<Mutex<Targets>>,
}

/// Brings the chosen hosts to the goal, and gives what came of each, in the order of their names.
pub(crate) async fn push(
    context: Context,
    wish: &Wish,
    root: Root,
    chosen: Vec<Chosen>,
) -> Result<Vec<(HostName, Outcome)>, Error> {
    let gate = Arc::new(Gate::new(wish.rule, chosen.len()));
    let (builds, builder) = builds(context.clone(), root, Arc::clone(&gate));
    let push = Push {
        context,
        goal: wish.goal,
        reach: Reach::find().await?,
        builds,
        gate,
        copies: Arc::new(Semaphore::new(COPIES)),
        targets: Arc::default(),
    };
    let hosts = each(chosen, |chosen| {
        let push = push.clone();
        async move {
            let mut host = Host { push, name: chosen.name.clone(), place: Place::Evaluating };
            let outcome = host.bring(&chosen).await.unwrap_or_else(Some);
            outcome.map(|outcome| host.end(outcome))
        }
    });
    let ended = tokio::select! {
        ended = hosts => ended,
        () = builder.run() => Vec::new(),
    };
    Ok(ended.into_iter().flatten().collect())
}

/// One host on its way.
struct Host {
    push: Push,
    name: HostName,
    place: Place,
}

impl Host {
    /// Source to report. `None` where the host is not selected; `Err` is how it ended before its end, not always badly.
    async fn bring(&mut self, chosen: &Chosen) -> Result<Option<Outcome>, Outcome> {
        let Some(declared) = self.push.context.declaration(chosen).await? else { return Ok(None) };
        if !self.push.goal.delivers() {
            self.build(&declared).await?;
            return Ok(Some(Outcome::Built { toplevel: declared.toplevel }));
        }
        let target = declared.host.target.as_ref().ok_or(Outcome::LocalOnly)?;
        self.alone_at(target)?;
        let reach = self.push.reach.clone();
        let asked = || {
            self.go(Place::Asked);
            self.enter(Stage::Connect);
        };
        let (mut session, observed) = reach.open(target, Some(&declared.toplevel), asked).await?;
        let outcome = self.deliver(&declared, &observed, &mut session).await;
        session.close().await;
        outcome.map(Some)
    }

    /// Asked to activated.
    async fn deliver(
        &mut self,
        declared: &Declaration,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<Outcome, Outcome> {
        let asked = Instant::now();
        self.plan(declared, observed)?;
        if !observed.has_toplevel {
            self.build(declared).await?;
        }
        self.go(Place::Through);
        self.enter(Stage::Wait);
        if !self.push.gate.pass(&self.push.context.events).await {
            declared.host.target.as_ref().map_or(Ok(()), |target| self.alone_at(target))?;
            return Err(Outcome::HeldBack);
        }
        self.enter(Stage::Copy);
        // It may have waited long for the others.
        if asked.elapsed() > FRESH {
            let now = session.observe().await.map_err(|error| troubled(Stage::Copy, &error))?;
            self.plan(declared, &now)?;
            if (&now.current, &now.profile) != (&observed.current, &observed.profile) {
                return Err(refused(&Refusal::Changed));
            }
        }
        self.copy(declared, observed, session).await?;
        if self.push.goal == Goal::Push {
            return Ok(Outcome::Pushed);
        }
        self.enter(Stage::Activate);
        let activation =
            session.activate(self.push.goal).await.map_err(|error| troubled(Stage::Activate, &error))?;
        let ending = judge(self.push.goal, &activation.results, &activation.log);
        Ok(Outcome::of(self.push.goal, ending, activation.log))
    }

    /// Whether anything is to be done for it.
    fn plan(&self, declared: &Declaration, observed: &Observed) -> Result<(), Outcome> {
        match plan(self.push.goal, declared, observed) {
            Plan::Deliver => Ok(()),
            Plan::Nothing => Err(Outcome::UpToDate { goal: self.push.goal }),
            Plan::Refuse(refusal) => Err(refused(&refusal)),
        }
    }

    /// That no other host is reached the same way: one machine can't be two hosts.
    fn alone_at(&self, target: &Target) -> Result<(), Outcome> {
        let place = (target.host.to_lowercase(), target.port, target.ssh_options.clone());
        let mut targets = self.push.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let here = targets.entry(place).or_default();
        here.insert(self.name.clone());
        let others: Vec<&str> =
            here.iter().filter(|name| **name != self.name).map(HostName::as_str).collect();
        if others.is_empty() {
            return Ok(());
        }
        let reason = format!("it is reached at {}, the same as {}", target.display(), others.join(", "));
        let hint = "two hosts can't be one machine: set `deployment.targetHost` of one of them";
        Err(Outcome::failed(Stage::Evaluate, reason, Some(hint.into())))
    }

    async fn build(&mut self, declared: &Declaration) -> Result<(), Outcome> {
        self.go(Place::Building);
        self.enter(Stage::Build);
        self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))
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
        if observed.has_toplevel {
            // It is rooted by the question.
            let missing =
                session.missing(std::slice::from_ref(&declared.toplevel)).await.map_err(host_says)?;
            if missing.is_empty() {
                return Ok(());
            }
            // It was collected meanwhile, and so was not built here.
            self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))?;
        }
        let permit = self.push.copies.acquire().await;
        let store = self.push.context.nix.store_here().map_err(nix_says)?;
        let (store, mut closure) = store.closure(&declared.toplevel).await.map_err(nix_says)?;
        let paths: Vec<StorePath> = closure.iter().map(|info| info.path.clone()).collect();
        keep(&mut closure, session.missing(&paths).await.map_err(host_says)?);
        if let Some(shortage) = shortage(observed, size(&closure)) {
            let hint = "`nix-collect-garbage --delete-older-than 30d` there frees what old generations need";
            return Err(Outcome::failed(Stage::Copy, shortage.to_string(), Some(hint.into())));
        }
        drop(permit);
        let cached = worth_substituting(&closure);
        if !cached.is_empty() {
            let (host, paths, of) = (self.name.clone(), cached.len(), size(&cached));
            (self.push.context.events)(Event::Fetching { host, paths, of });
            let asked: Vec<StorePath> = cached.into_iter().map(|info| info.path).collect();
            let lacking = session.substitute(&asked, of).await.map_err(host_says)?;
            let (asked, lacking): (HashSet<_>, HashSet<_>) =
                (asked.into_iter().collect(), lacking.into_iter().collect());
            closure.retain(|info| !asked.contains(&info.path) || lacking.contains(&info.path));
        }
        if closure.is_empty() {
            return Ok(());
        }
        let _permit = self.push.copies.acquire().await;
        self.send(store, closure, session).await
    }

    /// Sends paths, and tells how far it is.
    async fn send(&self, store: Store, paths: Vec<PathInfo>, session: &mut Session) -> Result<(), Outcome> {
        let (count, of) = (paths.len(), size(&paths));
        let tell = |bytes: u64| {
            let host = self.name.clone();
            (self.push.context.events)(Event::Copied { host, paths: count, bytes: bytes.min(of), of });
        };
        tell(0);
        let mut delivery = store.deliver(paths);
        session.import(delivery.answer()).await;
        let (mut told, mut sent) = (Instant::now(), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = delivery.read(&mut buffer).await.map_err(|error| failed(Stage::Copy, &error))?;
            // The host that has stopped taking them knows why.
            if read == 0 || !session.pass(&buffer[..read]).await {
                break;
            }
            sent += read as u64;
            if told.elapsed() >= TELL {
                told = Instant::now();
                tell(sent);
            }
        }
        session.imported().await.map_err(|error| troubled(Stage::Copy, &error))?;
        tell(of);
        Ok(())
    }

    fn enter(&self, stage: Stage) {
        (self.push.context.events)(Event::Stage { host: self.name.clone(), stage });
    }

    /// Tells the others where it is now.
    fn go(&mut self, to: Place) {
        self.push.gate.go(self.place, to);
        self.place = to;
    }

    fn end(&mut self, outcome: Outcome) -> (HostName, Outcome) {
        self.push.gate.ended(&self.name, &outcome);
        self.push.context.end(&self.name, outcome)
    }
}

impl Drop for Host {
    /// Nobody waits for a host that is through, however it ended.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.push.gate.miss(&self.name);
        }
        self.go(Place::Through);
    }
}

/// Leaves of some paths those that are named.
fn keep(infos: &mut Vec<PathInfo>, named: Vec<StorePath>) {
    let named: HashSet<StorePath> = named.into_iter().collect();
    infos.retain(|info| named.contains(&info.path));
}

/// How many bytes paths have.
fn size(infos: &[PathInfo]) -> u64 {
    infos.iter().map(|info| info.size).sum()
}

/// Of what a host lacks, what it is told to look for in its own caches first: what a cache has signed, if that is much.
fn worth_substituting(lacking: &[PathInfo]) -> Vec<PathInfo> {
    let signed: Vec<PathInfo> = lacking.iter().filter(|info| !info.signatures.is_empty()).cloned().collect();
    if size(&signed) < SUBSTITUTE { Vec::new() } else { signed }
}

pub(crate) fn refused(refusal: &Refusal) -> Outcome {
    Outcome::Refused { reason: refusal.to_string(), hint: refusal.hint().to_owned() }
}

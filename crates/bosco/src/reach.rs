//! How hosts are reached: so many at once, once more where a connection was dropped, and through the hub where there is no
//! other way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosco_activation::Told;
use bosco_model::{HostName, Observed, StorePath, Target};
use bosco_session::{Operator, Session, Stage as Progress, Sudo, Wanted};
use bosco_wire::{Ssh, Trouble};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::event::{Event, Sink, Stage, ask};
use crate::fleet::Context;
use crate::hub::Hub;
use crate::outcome::Outcome;

/// How many connections are made at once.
const CONNECTIONS: usize = 50;
/// How long to wait before a connection that broke before the host spoke is tried again: a jump host that many pass at
/// once drops some of them (sshd's `MaxStartups`).
const TRY_AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// A connection that lasted longer was not dropped by somebody busy; its host has gone.
const DROPPED: Duration = Duration::from_secs(8);

/// How long, in seconds, a host may take to be connected to that could be reached through the hub as well.
const DIRECT: u64 = 5;

/// The operator's `ssh`, and password, shared by all hosts of a command.
#[derive(Clone)]
pub(crate) struct Reach {
    operator: Operator,
    connections: Arc<Semaphore>,
    /// Those that an activation waits for must not wait behind those that begin one.
    confirmations: Arc<Semaphore>,
    hub: Option<Hub>,
    events: Sink,
    /// The ways through the hub of hosts that do not answer otherwise.
    detours: Arc<Mutex<HashMap<HostName, Arc<Target>>>>,
}

impl Reach {
    /// Looks for `ssh`, and for the fleet's hub.
    pub(crate) async fn find(context: &Context) -> Result<Self, Error> {
        let permits = || Arc::new(Semaphore::new(CONNECTIONS));
        let hub = match &context.rules {
            Some(rules) => Hub::from(rules.clone()).await?,
            None => None,
        };
        Ok(Self {
            operator: Operator { ssh: Ssh::find().await?, sudo: sudo(context) },
            connections: permits(),
            confirmations: permits(),
            hub,
            events: context.events.clone(),
            detours: Arc::default(),
        })
    }

    /// The same, but for this machine itself, without `ssh`.
    pub(crate) fn here(context: &Context) -> Self {
        let permits = || Arc::new(Semaphore::new(CONNECTIONS));
        Self {
            operator: Operator { ssh: Ssh::here(), sudo: sudo(context) },
            connections: permits(),
            confirmations: permits(),
            hub: None,
            events: context.events.clone(),
            detours: Arc::default(),
        }
    }

    /// Whether it is this machine that is reached.
    pub(crate) fn is_here(&self) -> bool {
        self.operator.ssh.is_here()
    }

    /// Connects to a host and brings back what it says of itself; `turn` is called when its turn has come.
    pub(crate) async fn open(
        &self,
        host: &HostName,
        target: &Target,
        wanted: Wanted<'_>,
        turn: impl FnOnce(),
    ) -> Result<(Session, Observed), Outcome> {
        let open = |target: Arc<Target>| async move { Session::open(&self.operator, &target, wanted).await };
        self.connect(host, target, turn, open).await
    }

    /// Connects anew to a host whose activation waits for that, and follows it. Tries once: who waits knows how long.
    pub(crate) async fn confirm(
        &self,
        host: &HostName,
        target: &Target,
        helper: &StorePath,
        id: &str,
        token: Option<&str>,
        tell: &mut (dyn FnMut(&Told) + Send),
    ) -> Result<Progress, bosco_session::Error> {
        let permit = self.confirmations.acquire().await;
        let detour = self.detour(host);
        let target = detour.as_deref().unwrap_or(target);
        let session = Session::anew(&self.operator, target, helper, id, token).await?;
        // It is the connecting that must not be done to all at once.
        drop(permit);
        session.confirmed(tell).await
    }

    /// Connects to a host for a command; `turn` is called when its turn has come.
    pub(crate) async fn prepare(
        &self,
        host: &HostName,
        target: &Target,
        command: &str,
        turn: impl FnOnce(),
    ) -> Result<Session, Outcome> {
        let prepare =
            |target: Arc<Target>| async move { Session::prepare(&self.operator, &target, command).await };
        self.connect(host, target, turn, prepare).await
    }

    /// The `ssh` of a person who wants to be on a host, and whether it goes through the hub: it has to end before this does
    /// then.
    pub(crate) async fn login(
        &self,
        host: &HostName,
        target: &Target,
        command: &[String],
    ) -> (std::process::Command, bool) {
        // `ssh` itself can't be asked whether it is there without logging in.
        if self.hub.is_some()
            && self.operator.ssh.is_there(target, Duration::from_secs(DIRECT)).await == Some(false)
            && let Some(detour) = self.find_detour(host, target).await
        {
            return (self.operator.ssh.login(&detour, command), true);
        }
        (self.operator.ssh.login(target, command), false)
    }

    /// Connects the way that the fleet declares; where the host does not answer, and the hub has it, through that.
    async fn connect<T, F>(
        &self,
        host: &HostName,
        target: &Target,
        turn: impl FnOnce(),
        connect: impl Fn(Arc<Target>) -> F,
    ) -> Result<T, Outcome>
    where
        F: Future<Output = Result<T, bosco_session::Error>>,
    {
        let _permit = self.connections.acquire().await;
        turn();
        if let Some(detour) = self.detour(host) {
            return persist(|| connect(Arc::clone(&detour))).await;
        }
        let mut direct = target.clone();
        if self.hub.is_some() {
            // Behind the fleet's own options, which win.
            direct.ssh_options.extend(["-o".into(), format!("ConnectTimeout={DIRECT}")]);
        }
        let direct = Arc::new(direct);
        match persist(|| connect(Arc::clone(&direct))).await {
            Err(offline @ Outcome::Offline { .. }) => match self.find_detour(host, target).await {
                Some(detour) => persist(|| connect(Arc::clone(&detour))).await,
                None => Err(offline),
            },
            answer => answer,
        }
    }

    /// The way through the hub that was taken to a host before.
    fn detour(&self, host: &HostName) -> Option<Arc<Target>> {
        self.detours.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// The way through the hub, where there is one; it is taken from now on.
    async fn find_detour(&self, host: &HostName, target: &Target) -> Option<Arc<Target>> {
        let detour = Arc::new(self.hub.as_ref()?.way(host, target).await?);
        (self.events)(Event::Through { host: host.clone() });
        let mut detours = self.detours.lock().unwrap_or_else(PoisonError::into_inner);
        detours.insert(host.clone(), Arc::clone(&detour));
        Some(detour)
    }
}

/// How its operator becomes root: where they can be asked, with a password.
fn sudo(context: &Context) -> Sudo {
    if !context.asks {
        return Sudo::default();
    }
    let events = context.events.clone();
    Sudo::asking(move |asked| {
        let events = events.clone();
        Box::pin(async move { ask(&events, |answer| Event::Password { asked, answer }).await.flatten() })
    })
}

/// Connects, and again where a connection was dropped by somebody busy.
async fn persist<T, F>(connect: impl Fn() -> F) -> Result<T, Outcome>
where
    F: Future<Output = Result<T, bosco_session::Error>>,
{
    let mut waits = TRY_AGAIN.iter();
    loop {
        let started = Instant::now();
        match connect().await {
            Err(bosco_session::Error::Wire(error)) if error.trouble == Trouble::Lost => match waits.next() {
                Some(wait) if started.elapsed() < DROPPED => tokio::time::sleep(*wait).await,
                _ => return Err(troubled(Stage::Connect, &error.into())),
            },
            answer => return answer.map_err(|error| troubled(Stage::Connect, &error)),
        }
    }
}

/// An error of a session as what came of the host.
pub(crate) fn troubled(stage: Stage, error: &bosco_session::Error) -> Outcome {
    match error {
        bosco_session::Error::Wire(wire) if stage == Stage::Connect && wire.trouble.is_offline() => {
            Outcome::Offline { reason: error.to_string(), hint: error.hint() }
        }
        bosco_session::Error::Wire(wire) if wire.trouble == Trouble::Stopped => {
            Outcome::Interrupted { stage }
        }
        _ => Outcome::failed(stage, error.to_string(), error.hint()),
    }
}

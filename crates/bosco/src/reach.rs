//! How hosts are reached: so many at once, and once more where a connection was dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bosco_activation::Told;
use bosco_model::{Observed, StorePath, Target};
use bosco_session::{Session, Stage as Progress, Wanted};
use bosco_wire::{Ssh, Trouble};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::event::Stage;
use crate::outcome::Outcome;

/// How many connections are made at once.
const CONNECTIONS: usize = 50;
/// How long to wait before a connection that broke before the host spoke is tried again: a jump host that many pass at
/// once drops some of them (sshd's `MaxStartups`).
const TRY_AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// A connection that lasted longer was not dropped by somebody busy; its host has gone.
const DROPPED: Duration = Duration::from_secs(8);

/// The operator's `ssh`, shared by all hosts of a command.
#[derive(Clone)]
pub(crate) struct Reach {
    ssh: Ssh,
    connections: Arc<Semaphore>,
    /// Those that an activation waits for must not wait behind those that begin one.
    confirmations: Arc<Semaphore>,
}

impl Reach {
    /// Looks for `ssh`.
    pub(crate) async fn find() -> Result<Self, Error> {
        let permits = || Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self { ssh: Ssh::find().await?, connections: permits(), confirmations: permits() })
    }

    /// Connects to a host and brings back what it says of itself; `turn` is called when its turn has come.
    pub(crate) async fn open(
        &self,
        target: &Target,
        wanted: Wanted<'_>,
        turn: impl FnOnce(),
    ) -> Result<(Session, Observed), Outcome> {
        self.connect(turn, || Session::open(&self.ssh, target, wanted)).await
    }

    /// Connects anew to a host whose activation waits for that, and follows it. Tries once: who waits knows how long.
    pub(crate) async fn confirm(
        &self,
        target: &Target,
        helper: &StorePath,
        id: &str,
        token: Option<&str>,
        tell: &mut (dyn FnMut(&Told) + Send),
    ) -> Result<Progress, bosco_session::Error> {
        let permit = self.confirmations.acquire().await;
        let session = Session::anew(&self.ssh, target, helper, id, token).await?;
        // It is the connecting that must not be done to all at once.
        drop(permit);
        session.confirmed(tell).await
    }

    /// Connects to a host for a command; `turn` is called when its turn has come.
    pub(crate) async fn prepare(
        &self,
        target: &Target,
        command: &str,
        turn: impl FnOnce(),
    ) -> Result<Session, Outcome> {
        self.connect(turn, || Session::prepare(&self.ssh, target, command)).await
    }

    async fn connect<T, F>(&self, turn: impl FnOnce(), connect: impl Fn() -> F) -> Result<T, Outcome>
    where
        F: Future<Output = Result<T, bosco_session::Error>>,
    {
        let _permit = self.connections.acquire().await;
        turn();
        let mut waits = TRY_AGAIN.iter();
        loop {
            let started = Instant::now();
            match connect().await {
                Err(bosco_session::Error::Wire(error)) if error.trouble == Trouble::Lost => {
                    match waits.next() {
                        Some(wait) if started.elapsed() < DROPPED => tokio::time::sleep(*wait).await,
                        _ => return Err(troubled(Stage::Connect, &error.into())),
                    }
                }
                answer => return answer.map_err(|error| troubled(Stage::Connect, &error)),
            }
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

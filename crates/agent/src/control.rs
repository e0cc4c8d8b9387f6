//! The control connection: what the hub has to say comes over it, and what it is told goes over it.

use std::sync::Arc;
use std::time::Duration;

use bosco_wire::api::{Hello, LONGEST_ORDERS, Orders, Standing, Welcome};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::link::{Link, LinkError, Width};
use hyper::Method;
use thiserror::Error;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::activate;
use crate::agent::Agent;
use crate::backoff::{CONNECT, SPREAD, jitter, within};
use crate::core::words;
use crate::machine;
use crate::visit::{self, Visits};

/// How long it takes at least from one answer to the next question: a hub that always has something must not keep the machine
/// busy.
const PAUSE: Duration = Duration::from_secs(1);
/// A connection that lasted so long was one: the next one is tried at once.
const LASTED: Duration = Duration::from_secs(60);
/// How long the helper may take to let go of a hold.
const LIFT: Duration = Duration::from_secs(60);

/// Why there is no talking to the hub.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What has to be kept before it is used can't be, or not be signed before it is sent.
    #[error("{0}")]
    Disk(String),
    /// The host trusts another hub by now.
    #[error("the hub has moved")]
    Moved,
}

/// Connects to the hub and says who this is: what counts as a fresh connection.
pub(crate) async fn greet(agent: &Agent, user: &str) -> Result<(Link, Http), ControlError> {
    let link = agent.connect(user, Width::Narrow).await?;
    let mut http = agent.http(&link, LONGEST_ORDERS).await?;
    let _turn = agent.greeting.lock().await;
    timeout(agent.config.patience.greeting, say_hello(agent, &mut http))
        .await
        .map_err(|_| HttpError::Silent)??;
    Ok((link, http))
}

async fn say_hello(agent: &Agent, http: &mut Http) -> Result<(), ControlError> {
    let hello = {
        let core = agent.core();
        Hello { ratchet: core.pull.ratchet.clone(), standing: core.standing() }
    };
    let Welcome { ratchet, alarm } = http.post("/v1/host/hello", &hello, Duration::ZERO).await?;
    {
        let mut core = agent.core();
        core.ratchet(ratchet).map_err(ControlError::Disk)?;
        let alarm = alarm.map(|alarm| words(&alarm));
        if let Some(alarm) = alarm.as_ref().filter(|alarm| core.alarm.as_ref() != Some(alarm)) {
            core.say(alarm);
        }
        core.alarm = alarm;
    }
    // What the hub has given counts from the next question on.
    http.send(Method::POST, "/v1/host/standing", &hello.standing).await?;
    Ok(())
}

/// Asks for orders, waiting at most so long for something new.
pub(crate) async fn orders(
    agent: &Agent,
    http: &mut Http,
    wait: Duration,
) -> Result<Option<Orders>, HttpError> {
    let leaf = agent.core().heard().map(|leaf| format!("leaf={leaf}&")).unwrap_or_default();
    http.wait(&format!("/v1/host/orders?{leaf}wait={}", wait.as_secs()), wait).await
}

/// Does what orders say, but for what is decided.
pub(crate) async fn hear(agent: &Arc<Agent>, orders: Orders, visits: &Visits) {
    let asked = agent.core().hear(orders);
    if let Some(number) = asked.lift {
        lift(agent, number).await;
        agent.look(Duration::ZERO).await;
    }
    for visit in asked.visits.into_iter().take(visit::MOST) {
        visits.open(agent, visit);
    }
    agent.changed.notify_one();
}

/// Lets go of a hold. What comes of it is seen at the next look.
pub(crate) async fn lift(agent: &Agent, number: u64) {
    let mut command = Command::new(&agent.config.helper);
    command.args(["helper", "lift", &number.to_string()]);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let lifted = timeout(LIFT, command.output()).await;
    if !matches!(&lifted, Ok(Ok(output)) if output.status.success()) {
        agent.say("the hold could not be let go of");
    }
    agent.core().look_at_journal();
}

/// Keeps a connection to the hub, without end.
pub(crate) async fn keep(agent: &Arc<Agent>) {
    let visits = Visits::default();
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let Err(error) = session(agent, &visits).await;
        {
            let mut core = agent.core();
            let words = error.to_string();
            if core.connected || core.away.as_ref() != Some(&words) {
                core.say(&words);
            }
            (core.connected, core.away) = (false, Some(words));
        }
        agent.changed.notify_one();
        let lasted = began.elapsed() > LASTED;
        failures = if lasted || matches!(error, ControlError::Moved) { 1 } else { failures + 1 };
        let wait = if lasted {
            within(SPREAD, machine::random())
        } else {
            CONNECT.wait(failures, machine::random())
        };
        sleep(wait).await;
    }
}

/// One connection, to its end.
async fn session(agent: &Arc<Agent>, visits: &Visits) -> Result<std::convert::Infallible, ControlError> {
    let (link, mut asked) = greet(agent, "agent").await?;
    // What an operator has said meanwhile is known before anything is decided; who is told nothing is not told to stay.
    let first = orders(agent, &mut asked, Duration::ZERO).await?;
    hear(agent, first.unwrap_or_default(), visits).await;
    {
        let mut core = agent.core();
        (core.connected, core.away) = (true, None);
        core.say("connected to the hub");
    }
    agent.changed.notify_one();
    let came = tokio::select! {
        came = listen(agent, &mut asked, visits) => came,
        came = tell(agent, &link) => came,
    };
    link.close().await;
    came
}

async fn listen(
    agent: &Arc<Agent>,
    http: &mut Http,
    visits: &Visits,
) -> Result<std::convert::Infallible, ControlError> {
    let with = agent.hub();
    loop {
        let now = agent.hub();
        if (&now.address, &now.keys) != (&with.address, &with.keys) {
            return Err(ControlError::Moved);
        }
        if let Some(orders) = orders(agent, http, agent.config.patience.news).await? {
            hear(agent, orders, visits).await;
        }
        sleep(PAUSE).await;
    }
}

/// Each time that there is something to tell, a channel of its own is opened for it: while there is not, a host costs its hub
/// the one that waits.
async fn tell(agent: &Agent, link: &Link) -> Result<std::convert::Infallible, ControlError> {
    // The hub has the one of the greeting; it may be older than what has happened since.
    let mut last = Standing::default();
    loop {
        let standing = agent.core().standing();
        let is_new = standing != last;
        if is_new || agent.queue.oldest().is_some() {
            let mut http = agent.http(link, LONGEST_ORDERS).await?;
            if is_new {
                http.send(Method::POST, "/v1/host/standing", &standing).await?;
                last = standing;
            }
            reports(agent, &mut http).await?;
        }
        let interval = Duration::from_secs(agent.core().interval());
        if timeout(jitter(interval, machine::random()), agent.news.notified()).await.is_err() {
            last = Standing::default();
        }
        // What comes in a row goes together.
        sleep(PAUSE / 4).await;
    }
}

/// Sends the reports that wait.
pub(crate) async fn reports(agent: &Agent, http: &mut Http) -> Result<(), ControlError> {
    while let Some((file, said)) = agent.queue.oldest() {
        let report = activate::sign(agent, &said).map_err(ControlError::Disk)?;
        match http.send(Method::POST, "/v1/host/reports", &report).await {
            Ok(()) => agent.queue.taken(&file).map_err(ControlError::Disk)?,
            // It will say the same each time; the others must not wait for that.
            Err(HttpError::Refused { status: status @ (400 | 403 | 413 | 422), error }) => {
                agent.say(&format!("the hub does not take a report ({status}): {error}"));
                agent.queue.set_aside(&file);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

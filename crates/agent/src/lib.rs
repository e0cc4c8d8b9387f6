//! The agent: the always-on side on a host. It hears of releases from the hub, decides when to take one, fetches it, has the helper
//! activate it, and reports.
//!
//! What it decides is in [`schedule`], [`window`] and [`backoff`], as functions of what is known; whether a manifest is taken at
//! all is `bosco_release::judge`. Everything else here carries it out. It must never need anything but the hub and Nix, never
//! change the host but by the helper, and never believe the hub what nobody has signed.

mod activate;
mod agent;
pub mod backoff;
mod build;
mod config;
mod control;
mod core;
mod fetch;
mod join;
mod keep;
mod machine;
mod page;
mod queue;
pub mod schedule;
#[cfg(test)]
mod testing;
mod visit;
mod watch;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, Done};
use bosco_host::notify;
pub use config::{AgentConfig, Patience, Say};
use control::ControlError;
pub use join::{JoinConfig, JoinError, join};
use tokio::time::sleep;
use visit::Visits;

/// How often systemd hears that the agent is alive, where it wants to: a third of the shortest time that is of any use.
const ALIVE: Duration = Duration::from_secs(10);
/// How often one turn by itself tries to reach the hub.
const TRIES: u32 = 3;

/// What came of one turn by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// The host is where it should be, or stays where it is for a reason.
    Done,
    /// It was to be brought somewhere else, and was not.
    NotActivated,
    /// The hub could not be reached.
    Unreachable,
}

/// Runs without end. Whoever has enough of it drops it: an activation that is under way goes on by itself.
///
/// # Errors
/// In words, where it can't begin.
pub async fn run(config: AgentConfig) -> Result<std::convert::Infallible, String> {
    let agent = Agent::open(config)?;
    agent.core().ticks(false);
    notify::ready();
    let alive = async {
        loop {
            notify::alive();
            sleep(ALIVE).await;
        }
    };
    let page = async {
        if let Some(port) = agent.config.page {
            page::serve(&agent, port).await;
        }
        // Without it the agent does its work all the same.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = control::keep(&agent) => {}
        () = agent.drive() => {}
        () = alive => {}
        () = page => {}
    }
    Err("the agent has ended".into())
}

/// One turn, for a timer: hears what there is, does what is due, reports.
///
/// # Errors
/// In words, where it can't begin.
pub async fn once(config: AgentConfig) -> Result<Once, String> {
    let agent = Agent::open(config)?;
    agent.core().ticks(true);
    match turn(&agent).await {
        Ok(once) => Ok(once),
        Err(error) => {
            agent.say(&error.to_string());
            Ok(Once::Unreachable)
        }
    }
}

async fn turn(agent: &Arc<Agent>) -> Result<Once, ControlError> {
    let mut tries = 0;
    let (link, mut http) = loop {
        match control::greet(agent, "agent").await {
            Ok(connected) => break connected,
            Err(error) => {
                tries += 1;
                // What waits to be proven, after a reboot say, needs the hub for as long as it waits.
                if tries >= TRIES && !agent.is_awaited().await {
                    return Err(error);
                }
                sleep(backoff::CONNECT.wait(tries.min(TRIES), machine::random())).await;
            }
        }
    };
    agent.core().connected = true;
    if let Done::Failed = agent.take_up().await {
        agent.say("the activation that was under way did not bring the host to its manifest");
    }
    let orders = control::orders(agent, &mut http, Duration::ZERO).await?;
    control::hear(agent, orders.unwrap_or_default(), &Visits::default()).await;
    let done = agent.turn().await;
    // What was switched may have taken the connection along.
    let told = if matches!(done, Done::Nothing(_)) {
        conclude(agent, &mut http).await
    } else {
        link.close().await;
        let (link, mut http) = control::greet(agent, "agent").await?;
        let told = conclude(agent, &mut http).await;
        link.close().await;
        told
    };
    told?;
    Ok(if done == Done::Failed { Once::NotActivated } else { Once::Done })
}

/// Tells how it stands in the end.
async fn conclude(agent: &Agent, http: &mut bosco_wire::http::Http) -> Result<(), ControlError> {
    let standing = agent.core().standing();
    http.send(hyper::Method::POST, "/v1/host/standing", &standing).await?;
    control::reports(agent, http).await
}

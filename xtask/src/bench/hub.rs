//! What a crowd of agents costs a hub: memory and idle time, how soon all hear of a release, and a poll without news beside the
//! session of `sftp` that a host of bento makes for it.
//!
//! The agents are simulated to the point that nothing runs behind them; connection, keys and what is said are real. They
//! share the machine with the hub, so what they all hear of within some time includes what they themselves take of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::bench::Figure;
use crate::tools::build;

const AGENTS: &str = "2000";
/// How long nothing happens, in seconds.
const IDLE: &str = "120";
/// What figures are put together for.
const MANY: f64 = 10_000.0;

/// What `bosco-crowd` prints; its own words say what each is.
#[derive(Debug, Deserialize)]
struct Measured {
    agents: f64,
    memory_per_agent: f64,
    idle: f64,
    announce: f64,
    poll_bytes: f64,
    poll_turns: f64,
    sftp_bytes: f64,
    sftp_turns: f64,
    poll_cpu: f64,
    sftp_cpu: f64,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let bosco = build("bosco", "bosco", true)?;
    let crowd = build("simulated", "bosco-crowd", true)?;
    let said = Command::new(crowd)
        .arg(bosco)
        .args([AGENTS, IDLE])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("bosco-crowd can't be started")?;
    ensure!(said.status.success(), "bosco-crowd failed");
    let m: Measured = serde_json::from_slice(&said.stdout)?;
    let of_many = m.idle * MANY / m.agents * 100.0;
    Ok(vec![
        Figure::at_most("memory of the hub for each agent", m.memory_per_agent / 1000.0, "kB", 100.0, 1.0),
        Figure::beside(
            "what that makes for 10,000 agents",
            m.memory_per_agent * MANY / 1e6,
            "MB",
            100_000.0 * MANY / 1e6,
        ),
        Figure::at_most("idle time of the hub, at 10,000 agents, of one processor", of_many, "%", 5.0, 1.0),
        Figure::at_most("a release is heard by 2,000 agents", m.announce, "s", 2.0, 1.0),
        Figure::at_most("a poll without news, both directions", m.poll_bytes, "B", 1000.0, 1.0),
        Figure::beside("the same, beside a session of sftp", m.poll_bytes, "B", m.sftp_bytes),
        Figure::at_most("its round trips", m.poll_turns / 2.0, "", 1.0, 1.0),
        Figure::beside("the same, beside a session of sftp", m.poll_turns / 2.0, "", m.sftp_turns / 2.0),
        Figure::beside(
            "its time on the hub's processor, beside a session of sftp",
            m.poll_cpu * 1e3,
            "ms",
            m.sftp_cpu * 1e3,
        ),
    ])
}

//! An attempt as bosco's session drives it: asked for over one connection, proven by a fresh one, and followed. Without
//! evaluating anything, as there are hundreds of them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bosco_activation::{Report, Request, Told};

use crate::secrets::Carried;
use crate::world::World;

/// How long an attempt may be followed: its own limits, those of its way back, and a boot or two.
const FOLLOW: Duration = Duration::from_secs(400);
/// Between two tries where the host can't be reached, as bosco waits.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two tries where it is too early.
const EARLY: Duration = Duration::from_millis(250);

/// Ends who drives an attempt, from another thread.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    asked: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Stop {
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends the connection that there is, and lets no other begin.
    pub(crate) fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.end();
    }

    fn start(&self, command: &mut Command) -> Result<impl Read + use<>> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("can't start ssh")?;
        let out = child.stdout.take().context("ssh has no output")?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        if self.is_asked() {
            self.end();
        }
        Ok(out)
    }

    fn end(&self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where a conversation has led.
enum Came {
    Ended(Box<Report>),
    /// A fresh connection is wanted, with this word.
    Waiting(String),
    Early,
    /// The attempt is not known there, or another one is under way.
    Nothing,
    Lost,
}

/// Drives an attempt to its end. `None` where it was stopped, or did not come to one.
pub(crate) fn drive(
    world: &World,
    host: &str,
    request: &Request,
    secrets: Option<&Carried>,
    stop: &Stop,
) -> Result<Option<Report>> {
    let text = serde_json::to_string(request)?;
    let helper = format!("{}/bin/bosco helper", world.helper);
    let keep = secrets.map(|secrets| secrets.keep(&helper)).unwrap_or_default();
    let mut words = format!("{keep}printf '%s\\n' '{text}' | {helper} activate");
    let until = Instant::now() + FOLLOW;
    while !stop.is_asked() && Instant::now() < until {
        let mut token = String::new();
        let pause = match converse(world, host, &words, stop)? {
            Came::Ended(report) => return Ok(Some(*report)),
            Came::Nothing => return Ok(None),
            Came::Waiting(asked) => {
                token = asked;
                Duration::ZERO
            }
            Came::Early => EARLY,
            Came::Lost => AGAIN,
        };
        thread::sleep(pause);
        words = format!("{helper} confirm {} {token}", request.id);
    }
    Ok(None)
}

fn converse(world: &World, host: &str, words: &str, stop: &Stop) -> Result<Came> {
    let operator = world.lab.operator();
    let mut ssh = operator.command("ssh");
    ssh.arg("-F").arg(operator.ssh_config());
    ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"]);
    ssh.args(["-o", "ServerAliveCountMax=3", "--", host, words]);
    let out = stop.start(&mut ssh)?;
    let mut came = Came::Lost;
    for line in BufReader::new(out).lines() {
        let Ok(line) = line else { break };
        let Some(told) = line.strip_prefix("told ").and_then(|told| serde_json::from_str(told).ok()) else {
            continue;
        };
        came = match told {
            Told::Ended { report } => Came::Ended(report),
            Told::Waiting { token, .. } => Came::Waiting(token),
            Told::Early => Came::Early,
            Told::Unknown | Told::Busy { .. } => Came::Nothing,
            Told::Begun { .. } | Told::Doing { .. } | Told::Warning { .. } | Told::Rebooting { .. } => {
                continue;
            }
        };
        break;
    }
    stop.end();
    Ok(came)
}

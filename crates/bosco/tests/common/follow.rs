//! An apply that is followed by its events, so that a fault can strike at a moment that is known.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::Operator;
use testbed::fleet::Fleet;

use super::command;

/// How long an apply may say nothing: longer than any of bosco's own limits that a test may run into.
const SILENCE: Duration = Duration::from_secs(180);

/// `bosco apply --json` at work. What is left of it when it is dropped is killed.
pub struct Apply {
    child: Child,
    lines: Receiver<String>,
    events: Vec<Value>,
    started: Instant,
}

/// What an apply came to.
pub struct Came {
    pub code: i32,
    pub events: Vec<Value>,
    pub took: Duration,
}

impl Apply {
    /// Starts `bosco apply --json ARGS`.
    pub fn start(operator: &Operator, fleet: &Fleet<'_>, args: &[&str]) -> Self {
        let mut apply = command(operator, fleet, &[&["apply", "--json"], args].concat());
        // A group of its own, which can be sent signals.
        let mut child = apply.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, events: Vec::new(), started: Instant::now() }
    }

    /// Waits until a host enters a stage.
    #[track_caller]
    pub fn until_at(&mut self, host: &str, stage: &str) {
        self.until(&format!("{host} at `{stage}`"), |event| {
            event["event"] == "stage" && event["host"] == host && event["stage"] == stage
        });
    }

    /// Waits until a host begins with a part of its activation.
    #[track_caller]
    pub fn until_effect(&mut self, host: &str, effect: &str) {
        self.until(&format!("{host} at the effect `{effect}`"), |event| {
            event["event"] == "activating" && event["host"] == host && event["effect"] == effect
        });
    }

    /// Waits until a host looks in its own caches for what it lacks.
    #[track_caller]
    pub fn until_fetching(&mut self, host: &str) {
        self.until(&format!("{host} looking in its caches"), |event| {
            event["event"] == "fetching" && event["host"] == host
        });
    }

    /// Waits until some of what a host lacks is on its way, and not all of it.
    #[track_caller]
    pub fn until_half_copied(&mut self, host: &str) {
        self.until(&format!("the copy to {host} half-way"), |event| {
            let bytes = event["bytes"].as_u64().unwrap_or_default();
            event["event"] == "copied"
                && event["host"] == host
                && bytes > 0
                && bytes < event["of"].as_u64().unwrap()
        });
    }

    #[track_caller]
    fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        while let Some(event) = self.next() {
            if holds(&event) {
                return;
            }
        }
        panic!("the apply ended and never came to {what}:\n{}", shown(&self.events));
    }

    #[track_caller]
    fn next(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => {
                let event: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                self.events.push(event.clone());
                Some(event)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the apply has said nothing for {SILENCE:?}:\n{}", shown(&self.events))
            }
        }
    }

    /// Kills the `ssh` that it has started for a host, as soon as there is one.
    #[track_caller]
    pub fn kill_ssh(&self, host: &str) {
        let started = Instant::now();
        loop {
            if let Some(ssh) = child_for(self.child.id(), host) {
                let kill =
                    std::process::Command::new("kill").args(["-KILL", &ssh.to_string()]).status().unwrap();
                assert!(kill.success(), "ssh {ssh} to {host} could not be killed");
                return;
            }
            assert!(started.elapsed() < SILENCE, "bosco has no ssh to {host}");
            std::thread::yield_now();
        }
    }

    /// Sends a signal to it, and to all that it has started.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let sent = std::process::Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap();
        assert!(sent.success(), "no {signal} could be sent to bosco");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends(self) -> Came {
        self.follow(|_| {})
    }

    /// Waits for its end, and hands out each event on the way.
    #[track_caller]
    pub fn follow(mut self, mut each: impl FnMut(&Value)) -> Came {
        while let Some(event) = self.next() {
            each(&event);
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Came { code, events: std::mem::take(&mut self.events), took: self.started.elapsed() }
    }
}

impl Drop for Apply {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Came {
    /// Fails, with all that was said, unless bosco ended with this exit code, and its summary says the same.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "bosco ended with another exit code\n{}", shown(&self.events));
        assert_eq!(
            self.summary()["exitCode"],
            code,
            "the summary says another exit code: {}",
            self.summary()
        );
        self
    }

    /// Fails unless this is in what came of a host: its reason, its hint or its log.
    #[track_caller]
    pub fn says(self, host: &str, text: &str) -> Self {
        let outcome = self.outcome(host).to_string();
        assert!(
            outcome.contains(text),
            "what came of {host} is not `{text}` but {outcome}\n{}",
            shown(&self.events)
        );
        self
    }

    /// The last event.
    #[track_caller]
    pub fn summary(&self) -> &Value {
        self.events.last().filter(|event| event["event"] == "summary").unwrap_or_else(|| {
            panic!("the last event is no summary:\n{}", shown(&self.events));
        })
    }

    /// What came of a host, as the summary says.
    #[track_caller]
    pub fn outcome(&self, host: &str) -> &Value {
        let hosts = self.summary()["hosts"].as_array().unwrap();
        hosts
            .iter()
            .find(|one| one["host"] == host)
            .unwrap_or_else(|| panic!("no {host} in {}", self.summary()))
    }

    /// How many seconds after the start a host was through.
    #[track_caller]
    pub fn seconds(&self, host: &str) -> f64 {
        let ended = self.events.iter().find(|event| event["event"] == "ended" && event["host"] == host);
        ended.unwrap_or_else(|| panic!("{host} never ended:\n{}", shown(&self.events)))["seconds"]
            .as_f64()
            .unwrap()
    }
}

fn shown(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// The process that is `parent`'s child and an `ssh` to this host.
fn child_for(parent: u32, host: &str) -> Option<u32> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|id: &u32| {
        let proc = Path::new("/proc").join(id.to_string());
        // Behind the name, in brackets, come the state and the parent.
        let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let is_child =
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&parent.to_string());
        let line = std::fs::read_to_string(proc.join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        is_child
            && words.next().is_some_and(|program| program.ends_with("ssh"))
            && words.any(|word| word == host)
    })
}

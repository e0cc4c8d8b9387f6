//! What happens while a command works, as values: the stages tell, `show` shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bosco_model::{HostName, StorePath};
use bosco_secrets::Secret;
use bosco_session::Asked;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::differences::Compared;
use crate::outcome::Outcome;

/// What a host is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Evaluate,
    Connect,
    Build,
    Wait,
    Copy,
    Activate,
    /// A command of the operator's.
    Run,
    Reboot,
}

impl Stage {
    /// What a host does in it.
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluating",
            Self::Connect => "connecting",
            Self::Build => "building",
            Self::Wait => "waiting for the others",
            Self::Copy => "copying",
            Self::Activate => "activating",
            Self::Run => "running",
            Self::Reboot => "rebooting",
        }
    }
}

/// Something that happened. As JSON, one line each; `event` says which.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The fleet was found.
    Fleet { source: String, form: bosco_nix::Form, hosts: usize },
    /// A host enters a stage.
    Stage { host: HostName, stage: Stage },
    /// Nix warns; of no host where all would say the same.
    Warning { host: Option<HostName>, text: String },
    /// Nix begins to build, and to fetch what its caches have.
    Work { derivations: usize, paths: usize, download: Option<String> },
    /// Nix is at a derivation, or a path that it fetches.
    At { building: Option<String>, fetching: Option<String> },
    /// A builder says something.
    Said { text: String },
    /// A host fetches from its own caches what they have of some paths, bytes in all.
    Fetching { host: HostName, paths: usize, of: u64 },
    /// Bytes on their way to a host.
    Copied { host: HostName, paths: usize, bytes: u64, of: u64 },
    /// A host is reached through the hub: it does not answer otherwise.
    Through { host: HostName },
    /// Archives on their way to the hub, bytes in all.
    Uploading { paths: usize, bytes: u64, of: u64 },
    /// Damaged paths of a host are mended, bytes in all.
    Mending { host: HostName, paths: usize, of: u64 },
    /// One of them is as it was made.
    Mended { host: HostName, path: StorePath },
    /// A host begins with a part of its activation.
    Activating { host: HostName, effect: bosco_activation::Effect },
    /// A host is out of reach, or reboots; it has so many seconds to come back.
    Away { host: HostName, reason: String, seconds: u64 },
    /// A host is through.
    Ended { host: HostName, seconds: f64, outcome: Outcome },
    /// There is no more to tell of a host: it is not selected, or has answered.
    Done { host: HostName },
    /// The operator is asked whether to go on; whoever shows it answers it.
    #[serde(skip)]
    Question { compared: Vec<Compared>, answer: Answer<bool> },
    /// The operator is asked for the password that makes them root on a host.
    #[serde(skip)]
    Password { asked: Asked, answer: Answer<Option<Secret>> },
    /// Nothing is delivered, because of these hosts.
    HeldBack { missing: Vec<HostName> },
}

/// Where the answer to a question goes, which whoever shows it gives once.
pub(crate) struct Answer<T>(Arc<OnceLock<T>>);

impl<T> Answer<T> {
    /// Answers.
    pub(crate) fn give(&self, answer: T) {
        let _ = self.0.set(answer);
    }
}

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Answer")
    }
}

/// Asks who sits at the terminal; nothing where nobody shows the question.
pub(crate) async fn ask<T>(events: &Sink, question: impl FnOnce(Answer<T>) -> Event) -> Option<T>
where
    T: Clone + Send + Sync + 'static,
{
    let answer = Answer(Arc::default());
    let (done, answered) = oneshot::channel();
    let (event, events) = (question(answer.clone()), events.clone());
    // A thread of its own, which nobody waits for: who is asked may rather press Ctrl-C.
    std::thread::spawn(move || {
        events(event);
        let _ = done.send(());
    });
    let _ = answered.await;
    answer.0.get().cloned()
}

/// Where events go.
pub(crate) type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Where each host is, for when the operator stops a command.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Places>);

#[derive(Default)]
struct Places {
    hosts: BTreeMap<HostName, Place>,
    stopped: bool,
}

enum Place {
    At(Stage),
    Ended(Outcome),
}

impl Ledger {
    /// Keeps what an event says of a host's place. False where all has been stopped, and nothing is to be told any more.
    pub(crate) fn record(&self, event: &Event) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.stopped {
            return false;
        }
        match event {
            Event::Stage { host, stage } => places.hosts.insert(host.clone(), Place::At(*stage)),
            Event::Ended { host, outcome, .. } => {
                places.hosts.insert(host.clone(), Place::Ended(outcome.clone()))
            }
            Event::Done { host } => places.hosts.remove(host),
            _ => None,
        };
        true
    }

    /// What came of each host, those that are still under way being stopped where they are.
    pub(crate) fn stop(&self) -> Vec<(HostName, Outcome)> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.stopped = true;
        let outcome = |place: &Place| match place {
            Place::Ended(outcome) => outcome.clone(),
            Place::At(stage) => Outcome::Interrupted { stage: *stage },
        };
        places.hosts.iter().map(|(host, place)| (host.clone(), outcome(place))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_is_told_where_it_was_and_nothing_after_it() {
        let host = |name| HostName::parse(name).unwrap();
        let up_to_date = Outcome::UpToDate { goal: bosco_model::Goal::Switch };
        let ledger = Ledger::default();
        for (name, stage) in [("a", Stage::Copy), ("b", Stage::Build), ("c", Stage::Evaluate)] {
            assert!(ledger.record(&Event::Stage { host: host(name), stage }));
        }
        ledger.record(&Event::Ended { host: host("b"), seconds: 0.0, outcome: up_to_date.clone() });
        ledger.record(&Event::Done { host: host("c") });
        let stopped = ledger.stop();
        assert_eq!(
            stopped,
            [(host("a"), Outcome::Interrupted { stage: Stage::Copy }), (host("b"), up_to_date)]
        );
        assert!(!ledger.record(&Event::Done { host: host("a") }));
    }
}

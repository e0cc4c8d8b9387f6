//! What is to be built, handed to Nix as soon as it is known, in as few processes as that allows.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bosco_model::{Declaration, StorePath};
use bosco_nix::{Error, Root};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::{Context, listen};
use crate::gate::{Gate, Rule};

/// How long a host waits for others to be built by the same process: two that wait for the same derivation look only
/// every second whether it is there.
const GATHER: Duration = Duration::from_secs(2);
/// How often a host that need not wait for others looks whether it is built.
const LOOK: Duration = Duration::from_secs(2);
/// How many processes build side by side, each with as many jobs as Nix is set to.
const PROCESSES: usize = 4;

/// A host that is to be built, and who waits for it.
struct Request {
    declared: Declaration,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// Where to ask for a build.
#[derive(Clone)]
pub(crate) struct Builds(mpsc::UnboundedSender<Request>);

/// What builds.
pub(crate) struct Builder {
    requests: mpsc::UnboundedReceiver<Request>,
    context: Context,
    root: Arc<Root>,
    gate: Arc<Gate>,
}

/// A place to ask for builds, and what is to be run beside for them to be done. What was built is kept as long as `root` is.
pub(crate) fn builds(context: Context, root: Arc<Root>, gate: Arc<Gate>) -> (Builds, Builder) {
    let (send, requests) = mpsc::unbounded_channel();
    (Builds(send), Builder { requests, context, root, gate })
}

impl Builds {
    /// Builds a host's toplevel here.
    pub(crate) async fn build(&self, declared: &Declaration) -> Result<(), Error> {
        let (answer, built) = oneshot::channel();
        let request = Request { declared: declared.clone(), answer };
        // Where nobody builds any more, all has been stopped.
        self.0.send(request).map_err(|_| Error::Stopped)?;
        built.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Builder {
    /// Builds until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Request> = Vec::new();
        let mut until = Instant::now();
        let mut running = JoinSet::new();
        loop {
            let gathered = async {
                tokio::select! {
                    () = self.gate.all_known() => {}
                    () = sleep_until(until) => {}
                }
            };
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => {
                    if waiting.is_empty() {
                        until = Instant::now() + GATHER;
                    }
                    waiting.push(request);
                }
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                () = gathered, if !waiting.is_empty() && running.len() < PROCESSES => {
                    let (context, root) = (self.context.clone(), Arc::clone(&self.root));
                    running.spawn(build(context, root, self.gate.rule(), std::mem::take(&mut waiting)));
                }
                else => return,
            }
        }
    }
}

/// Builds some hosts with one process. Where they need not wait for one another, each is told as soon as it is there.
async fn build(context: Context, root: Arc<Root>, rule: Rule, mut requests: Vec<Request>) {
    let declared: Vec<Declaration> = requests.iter().map(|request| request.declared.clone()).collect();
    let mut listen = listen(&context.events, None);
    let mut work = pin!(context.nix.build(&context.fleet, &declared, &root, &mut listen));
    let results = loop {
        let early = rule == Rule::Each && requests.len() > 1;
        let waiting = requests.iter().flat_map(|request| request.declared.paths()).collect();
        tokio::select! {
            results = &mut work => break results,
            there = look(&context, &root, waiting), if early => {
                for request in requests.extract_if(.., |request| request.is_in(&there)) {
                    request.tell(Ok(()));
                }
            }
        }
    };
    let results: HashMap<&StorePath, _> = declared.iter().map(|one| &one.toplevel).zip(results).collect();
    for request in requests {
        let result = results.get(&request.declared.toplevel).cloned();
        request.tell(result.unwrap_or(Err(Error::Stopped)));
    }
}

/// Which of some paths are there after a while, rooted.
async fn look(context: &Context, root: &Root, waiting: Vec<StorePath>) -> Vec<StorePath> {
    sleep(LOOK).await;
    let mut kept = Vec::new();
    for path in context.nix.is_there(&waiting).await {
        if context.nix.root(&path, root).await {
            kept.push(path);
        }
    }
    kept
}

impl Request {
    /// Whether these paths are all that it waits for.
    fn is_in(&self, there: &[StorePath]) -> bool {
        self.declared.paths().iter().all(|path| there.contains(path))
    }

    fn tell(self, result: Result<(), Error>) {
        // Who does not wait any more needs no answer.
        let _ = self.answer.send(result);
    }
}

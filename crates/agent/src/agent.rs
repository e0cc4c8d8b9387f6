//! The agent's parts, and what they share: the control connection ([`crate::control`]) hears, the driver here decides and has it
//! done, visits and the page have a life of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bosco_release::{Opened, Trust};
use bosco_wire::api::Phase;
use bosco_wire::http::Http;
use bosco_wire::link::{self, Link, LinkError, Width};
use ssh_key::PrivateKey;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::activate;
use crate::backoff::jitter;
use crate::build;
use crate::config::AgentConfig;
use crate::control;
use crate::core::Core;
use crate::fetch::{self, FetchError};
use crate::keep::{self, Pull};
use crate::machine;
use crate::queue::Queue;
use crate::schedule::{At, Decision, Moment};
use crate::watch::Watch;

/// How old what is known of the machine may be when something is decided.
const FRESH: Duration = Duration::from_secs(30);
/// How long the driver waits at the most, whatever it knows.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the agent's parts share.
pub(crate) struct Agent {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) identity: Arc<PrivateKey>,
    core: Mutex<Core>,
    pub(crate) queue: Queue,
    /// Something is to be decided anew.
    pub(crate) changed: Notify,
    /// There is something to tell the hub.
    pub(crate) news: Notify,
    /// Held by who greets the hub: it takes one word from it at a time.
    pub(crate) greeting: tokio::sync::Mutex<()>,
}

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// There was nothing to do, or not now.
    Nothing(Option<Duration>),
    /// The host has come to its manifest.
    Arrived,
    /// It has not.
    Failed,
}

impl Agent {
    /// # Errors
    /// In words, with what to do.
    pub(crate) fn open(config: AgentConfig) -> Result<Arc<Self>, String> {
        let config = Arc::new(config);
        keep::prepare(&config.state)?;
        let identity = config.key()?;
        let trust = keep::trust(&config.state)?;
        let trust = trust.filter(|trust| !trust.hub.is_empty() && !trust.hub_keys.is_empty());
        let trust = trust.ok_or("this host has no hub; `bosco agent join` asks one to let it in")?;
        let (pull, said) = Pull::load(&config.state);
        if let Some(said) = said {
            (config.say)(&said);
        }
        Ok(Arc::new(Self {
            queue: Queue::new(&config.state),
            core: Mutex::new(Core::new(Arc::clone(&config), trust, pull)),
            config,
            identity,
            changed: Notify::new(),
            news: Notify::new(),
            greeting: tokio::sync::Mutex::new(()),
        }))
    }

    /// What is known. It must not be held while anything is waited for.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, words: &str) {
        (self.config.say)(words);
    }

    /// The hub, as the host trusts it now.
    pub(crate) fn hub(&self) -> link::Hub {
        let Trust { hub, hub_keys, .. } = self.core().trust.clone();
        link::Hub { address: hub, keys: hub_keys, identity: Arc::clone(&self.identity) }
    }

    /// Connects to the hub.
    pub(crate) async fn connect(&self, user: &str, width: Width) -> Result<Link, LinkError> {
        let (hub, limit) = (self.hub(), self.config.patience.connect);
        let why = || format!("no answer within {} s", limit.as_secs());
        match timeout(limit, hub.connect(user, width)).await {
            Ok(came) => came,
            Err(_) => Err(LinkError::Unreachable { address: hub.address, why: why() }),
        }
    }

    /// The hub's HTTP, where no document is longer than that.
    pub(crate) async fn http(&self, link: &Link, most: usize) -> Result<Http, LinkError> {
        let patience = self.config.patience;
        let http = timeout(patience.connect, link.http()).await;
        let http = http.map_err(|_| LinkError::Broken("no answer".into()))??;
        Ok(http.limited(patience.answer, most))
    }

    /// Asks the machine what it runs, unless that is known.
    pub(crate) async fn look(&self, fresh: Duration) {
        let (since, should, profiles) = {
            let core = self.core();
            (core.since_survey(), core.should().cloned(), core.profiles().clone())
        };
        if since.is_some_and(|since| since < fresh) {
            return;
        }
        let observed = machine::survey(should.as_ref(), &profiles).await;
        self.core().surveyed(observed, &profiles);
        let done = self.core().hold_is_done();
        if let Some(number) = done {
            control::lift(self, number).await;
        }
        self.report_missed().await;
    }

    /// Reports an attempt that ended while nobody looked.
    async fn report_missed(&self) {
        let missed = self.core().unreported().map(|attempt| (attempt.request.id.clone(), attempt.since));
        let Some((id, since)) = missed else { return };
        match activate::ended(self, &id).await {
            Ok((report, log)) => activate::report(self, since, &report, &log),
            Err(why) => {
                self.say(&format!("the last activation can't be reported: {why}"));
                let mut core = self.core();
                core.pull.reported = Some(id);
                core.save();
            }
        }
    }

    /// Goes on with an attempt that is under way: this agent may be the one that it has brought along.
    pub(crate) async fn take_up(&self) -> Done {
        self.look(Duration::ZERO).await;
        let Some(id) = self.core().open_attempt() else { return Done::Nothing(None) };
        self.say("an activation is under way; it is followed");
        self.core().at(Phase::Activating, None);
        self.news.notify_one();
        let leaf = self.core().leaf();
        let came = activate::follow(self, &id).await;
        let done = self.conclude(leaf, came);
        self.look(Duration::ZERO).await;
        done
    }

    /// Whether an activation that the agent has begun is under way.
    pub(crate) async fn is_awaited(&self) -> bool {
        self.look(Duration::ZERO).await;
        self.core().open_attempt().is_some()
    }

    /// Decides, and does what is due.
    pub(crate) async fn turn(&self) -> Done {
        self.look(FRESH).await;
        let moment = self.moment().await;
        let decision = self.core().decide(&moment);
        self.news.notify_one();
        match decision {
            Decision::Stay { until, .. } => Done::Nothing(until),
            Decision::Go { again } => {
                let Some(opened) = self.core().wanted() else { return Done::Nothing(None) };
                let done = self.bring(&opened, again).await;
                self.look(Duration::ZERO).await;
                done
            }
            Decision::Update => {
                let Some(opened) = self.core().wanted() else { return Done::Nothing(None) };
                let done = self.update(&opened).await;
                self.look(Duration::ZERO).await;
                self.news.notify_one();
                done
            }
        }
    }

    /// This moment.
    async fn moment(&self) -> Moment {
        let minds_line = self.core().minds_line();
        machine::moment(&self.config.places, minds_line).await
    }

    /// Brings the host to newer inputs than its manifest has. Whatever becomes of that, it stays where that wants it.
    async fn update(&self, opened: &Opened) -> Done {
        let built = tokio::select! {
            built = build::update(self, opened) => built,
            () = self.superseded(opened) => return Done::Nothing(Some(Duration::ZERO)),
        };
        let toplevel = match built {
            Ok(Some(toplevel)) => toplevel,
            Ok(None) => {
                self.core().is_newest();
                return Done::Nothing(None);
            }
            Err(why) => {
                self.core().not_updated(&why);
                return Done::Nothing(None);
            }
        };
        let moment = self.moment().await;
        if !self.core().may_update(opened, &moment) {
            return Done::Nothing(Some(Duration::ZERO));
        }
        self.core().at(Phase::Activating, None);
        self.news.notify_one();
        let why = match activate::run(self, opened, &toplevel, false).await {
            Ok(activate::Ended { committed: true, words }) => {
                self.say(&words);
                self.core().is_newest();
                return Done::Arrived;
            }
            Ok(activate::Ended { words, .. }) => words,
            Err(why) => why,
        };
        self.core().not_updated(&why);
        Done::Failed
    }

    /// Brings the host to a manifest.
    async fn bring(&self, opened: &Opened, again: bool) -> Done {
        let manifest = &opened.manifest;
        self.say(&format!("fetches release {}, {}", manifest.number, manifest.runs.path()));
        let fetched = tokio::select! {
            fetched = fetch::closure(self, manifest) => fetched,
            () = self.superseded(opened) => return Done::Nothing(Some(Duration::ZERO)),
        };
        if let Err(error) = fetched {
            if let FetchError::Nix(bosco_nix::Error::Failed { log, .. }) = &error {
                log.lines().for_each(|line| self.say(line));
            }
            let mut core = self.core();
            if let FetchError::Differs(_) = &error {
                core.tampered = Some(error.to_string());
            }
            core.failed(opened.leaf, At::Fetching, error.to_string());
            return Done::Failed;
        }
        let built = tokio::select! {
            built = build::itself(self, opened) => built,
            () = self.superseded(opened) => return Done::Nothing(Some(Duration::ZERO)),
        };
        if let Err(why) = built {
            self.core().failed(opened.leaf, At::Building, why);
            return Done::Failed;
        }
        let moment = self.moment().await;
        let decision = self.core().decide_again(&moment);
        if let Decision::Stay { until, .. } = decision {
            self.news.notify_one();
            return Done::Nothing(until);
        }
        let Some(toplevel) = self.core().should().cloned() else { return Done::Nothing(None) };
        self.say(&format!("activates release {}", manifest.number));
        self.core().at(Phase::Activating, None);
        self.news.notify_one();
        let came = activate::run(self, opened, &toplevel, again).await;
        self.conclude(Some(opened.leaf), came)
    }

    /// Waits until there is another manifest than this one, or it is not to be taken any more.
    async fn superseded(&self, opened: &Opened) {
        loop {
            self.changed.notified().await;
            if self.core().leaf() != Some(opened.leaf) {
                self.say("there is something newer");
                return;
            }
        }
    }

    fn conclude(&self, leaf: Option<bosco_release::Digest>, came: Result<activate::Ended, String>) -> Done {
        let why = match came {
            Ok(activate::Ended { committed: true, words }) => {
                self.say(&words);
                let mut core = self.core();
                core.at(Phase::Idle, None);
                if let Some(leaf) = leaf {
                    core.arrived(leaf);
                }
                return Done::Arrived;
            }
            Ok(activate::Ended { words, .. }) => words,
            Err(why) => why,
        };
        self.say(&why);
        if let Some(leaf) = leaf {
            self.core().failed(leaf, At::Activating, why);
        }
        Done::Failed
    }

    /// Decides whenever there is a reason to, without end.
    pub(crate) async fn drive(&self) {
        self.take_up().await;
        let mut journal = Watch::new(&self.config.places.journal());
        let mut trust = Watch::new(&keep::trust_file(&self.config.state));
        loop {
            let until = match self.turn().await {
                Done::Nothing(until) => until,
                // It is decided anew at once, by what is known now.
                Done::Arrived | Done::Failed => Some(Duration::ZERO),
            };
            let interval = Duration::from_secs(self.core().interval());
            let look = jitter(interval, machine::random());
            // What is due together is not done together.
            let until =
                until.map_or(look, |until| until.min(look) + Duration::from_secs(machine::random() % 3 + 1));
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(until.min(LONGEST)) => {}
                () = changed(journal.as_mut()) => self.look(Duration::ZERO).await,
                () = changed(trust.as_mut()) => self.core().look_at_trust(),
            }
        }
    }
}

/// Waits for a change, where one can be told.
async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

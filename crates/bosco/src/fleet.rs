//! The fleet that a command works on: found from the working directory, narrowed by a selector, evaluated host by host.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bosco_model::{Condition, Declaration, Host, HostName, Reach, Selector};
use bosco_nix::{Builders, Evaluated, Fleet, Inspected, LogLine, Nix, Source};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::{Cli, Place};
use crate::error::{Error, Exit};
use crate::event::{Event, Sink, Stage};
use crate::hub::{Rules, rules};
use crate::outcome::Outcome;
use crate::show::can_ask;
use crate::suggest::{first_of, instead_of, near};

/// What one evaluation of a NixOS host may need, in bytes: so many are run side by side as have room.
const MEMORY_PER_EVALUATION: u64 = 1024 * 1024 * 1024;

/// What all stages of a command share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) nix: Nix,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) events: Sink,
    /// How the fleet is run, where it says so.
    pub(crate) rules: Option<Rules>,
    /// Whether somebody sits there who can be asked.
    pub(crate) asks: bool,
    evaluations: Arc<Semaphore>,
    /// The tags of the hosts that were evaluated.
    tags: Arc<Mutex<BTreeMap<HostName, Vec<String>>>>,
    started: Instant,
}

/// A host that a selector may mean, with what its tags still have to say.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) name: HostName,
    pub(crate) condition: Option<Condition>,
}

impl Context {
    /// Finds Nix and the fleet.
    pub(crate) async fn find(cli: &Cli, events: Sink) -> Result<Self, Error> {
        let started = Instant::now();
        let source = source(&cli.place)?;
        // What is wrong there is told before anything is done.
        let rules = rules(&cli.place)?;
        let nix = Nix::find(cli.settings()).await?;
        let fleet = nix.fleet(&source, &mut listen(&events, None)).await?;
        events(Event::Fleet { source: fleet.source.to_string(), form: fleet.form, hosts: fleet.hosts.len() });
        let evaluations = Arc::new(Semaphore::new(evaluations_side_by_side()));
        Ok(Self {
            nix,
            fleet: Arc::new(fleet),
            events,
            rules,
            asks: can_ask(cli),
            evaluations,
            tags: Arc::default(),
            started,
        })
    }

    /// The same, with a host of the fleet that builds, instead of this machine.
    pub(crate) async fn building_on(self, host: &HostName) -> Result<Self, Error> {
        self.knows(host.as_str())?;
        let chosen = Chosen { name: host.clone(), condition: None };
        let builder = self.host(&chosen).await.map_err(|outcome| Error::of(host, &outcome))?;
        (self.events)(Event::Done { host: host.clone() });
        let Some((target, system)) = builder.and_then(|builder| Some((builder.target?, builder.system)))
        else {
            return Err(Error::new(Exit::Usage, format!("{host} can't build: nothing says how to reach it"))
                .hint("its `deployment.targetHost` is null"));
        };
        let builders = Some(Builders::Only { target, system });
        Ok(Self { fleet: Arc::new(Fleet { builders, ..(*self.fleet).clone() }), ..self })
    }

    /// The hosts that the selector may mean; all without one.
    pub(crate) fn choose(&self, selector: Option<&Selector>) -> Result<Vec<Chosen>, Error> {
        for name in selector.map(Selector::names).unwrap_or_default() {
            self.knows(&name)?;
        }
        let chosen: Vec<Chosen> = self
            .fleet
            .hosts
            .iter()
            .filter_map(|name| {
                let condition = match selector.map_or(Reach::Yes, |selector| selector.narrow(name)) {
                    Reach::Yes => None,
                    Reach::No => return None,
                    Reach::If(condition) => Some(condition),
                };
                Some(Chosen { name: name.clone(), condition })
            })
            .collect();
        if chosen.is_empty() {
            return Err(self.no_match(selector));
        }
        Ok(chosen)
    }

    /// That there is a host of that name.
    pub(crate) fn knows(&self, name: &str) -> Result<(), Error> {
        let names: Vec<&str> = self.fleet.hosts.iter().map(HostName::as_str).collect();
        if names.contains(&name) {
            return Ok(());
        }
        Err(Error::new(Exit::Usage, format!("no host is called `{name}`")).hint(instead_of(name, &names)))
    }

    /// The error for a selector that selects nothing.
    pub(crate) fn no_match(&self, selector: Option<&Selector>) -> Error {
        let Some(selector) = selector.filter(|_| !self.fleet.hosts.is_empty()) else {
            return Error::new(Exit::Usage, "the fleet declares no hosts");
        };
        let hint = self.strange_tag(selector).unwrap_or_else(|| self.names());
        Error::new(Exit::Usage, format!("no host matches `{selector}`")).hint(hint)
    }

    /// Warns of a selector that selects something, and names a tag that no host has.
    pub(crate) fn warn_of_tags(&self, selector: Option<&Selector>) {
        if let Some(text) = selector.and_then(|selector| self.strange_tag(selector)) {
            (self.events)(Event::Warning { host: None, text });
        }
    }

    /// What is to be said of the first tag of a selector that no host has, as far as that is known.
    fn strange_tag(&self, selector: &Selector) -> Option<String> {
        let evaluated = self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Of hosts whose name settled it, the tags may not be known.
        let all = evaluated.len() == self.fleet.hosts.len();
        let tags: BTreeSet<String> = evaluated.into_values().flatten().collect();
        let tag = selector.tags().into_iter().find(|tag| all && !tags.contains(tag))?;
        if tags.is_empty() {
            return Some("no host has a tag".into());
        }
        let near: Vec<String> =
            near(&tag, tags.iter().map(String::as_str)).map(|tag| format!("`@{tag}`")).collect();
        let known: Vec<String> = tags.iter().map(|tag| format!("@{tag}")).collect();
        Some(if near.is_empty() {
            format!("no host has the tag `@{tag}`; there are {}", first_of(&known))
        } else {
            format!("no host has the tag `@{tag}`; did you mean {}?", near.join(" or "))
        })
    }

    /// Which hosts there are, for a hint.
    fn names(&self) -> String {
        let names: Vec<String> = self.fleet.hosts.iter().map(ToString::to_string).collect();
        format!("the fleet has {}; `bosco hosts` lists them with their tags", first_of(&names))
    }

    /// Evaluates one host: how to deploy it and what it should run. `None` where its tags say that it is not selected.
    pub(crate) async fn declaration(&self, chosen: &Chosen) -> Result<Option<Declaration>, Outcome> {
        let mut listen = self.enter_evaluation(chosen);
        let _permit = self.evaluations.acquire().await;
        let condition = chosen.condition.as_ref();
        let answer = self.nix.declaration(&self.fleet, &chosen.name, condition, &mut listen).await;
        let declared = answer.map_err(|error| failed(Stage::Evaluate, &error))?;
        Ok(self.selected(chosen, declared, |declared| &declared.host))
    }

    /// Evaluates how to deploy one host.
    pub(crate) async fn host(&self, chosen: &Chosen) -> Result<Option<Host>, Outcome> {
        let mut listen = self.enter_evaluation(chosen);
        let _permit = self.evaluations.acquire().await;
        let answer = self.nix.host(&self.fleet, &chosen.name, chosen.condition.as_ref(), &mut listen).await;
        let host = answer.map_err(|error| failed(Stage::Evaluate, &error))?;
        Ok(self.selected(chosen, host, |host| host))
    }

    /// Evaluates which keys one host has and which secrets it asks for, and with `system` what makes its toplevel.
    pub(crate) async fn inspect(&self, chosen: &Chosen, system: bool) -> Result<Inspected, Outcome> {
        let mut listen = self.enter_evaluation(chosen);
        let _permit = self.evaluations.acquire().await;
        let answer = self.nix.inspect(&self.fleet, &chosen.name, system, &mut listen).await;
        answer.map_err(|error| failed(Stage::Evaluate, &error))
    }

    /// Keeps which tags a host has.
    fn have(&self, chosen: &Chosen, tags: Vec<String>) {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(chosen.name.clone(), tags);
    }

    /// Parts the hosts that are selected from the others, and tells what an evaluation leaves to be told.
    fn selected<T>(&self, chosen: &Chosen, evaluated: Evaluated<T>, host: fn(&T) -> &Host) -> Option<T> {
        match evaluated {
            Evaluated::Tagged(tags) => {
                self.have(chosen, tags);
                (self.events)(Event::Done { host: chosen.name.clone() });
                None
            }
            Evaluated::Selected(selected) => {
                self.have(chosen, host(&selected).tags.iter().map(ToString::to_string).collect());
                for option in &host(&selected).ignored {
                    let text =
                        format!("`{option}` is set; bosco does not do that yet, and goes on without it");
                    (self.events)(Event::Warning { host: Some(chosen.name.clone()), text });
                }
                Some(selected)
            }
        }
    }

    /// Asks all hosts that a selector means, side by side; `None` is the answer of one that it does not mean after all.
    pub(crate) async fn ask<T, F>(
        &self,
        selector: Option<&Selector>,
        ask: impl Fn(Self, Chosen) -> F,
    ) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let answers = self.ask_these(self.choose(selector)?, ask).await;
        if answers.is_empty() {
            return Err(self.no_match(selector));
        }
        self.warn_of_tags(selector);
        Ok(answers)
    }

    /// The same, of hosts that are chosen already.
    pub(crate) async fn ask_these<T, F>(&self, chosen: Vec<Chosen>, ask: impl Fn(Self, Chosen) -> F) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let answers = each(chosen, |chosen| {
            let (events, host) = (self.events.clone(), chosen.name.clone());
            let answer = ask(self.clone(), chosen);
            async move {
                let answer = answer.await;
                events(Event::Done { host });
                answer
            }
        });
        answers.await.into_iter().flatten().collect()
    }

    /// Tells what came of a host.
    pub(crate) fn end(&self, host: &HostName, outcome: Outcome) -> (HostName, Outcome) {
        let seconds = self.started.elapsed().as_secs_f64();
        (self.events)(Event::Ended { host: host.clone(), seconds, outcome: outcome.clone() });
        (host.clone(), outcome)
    }

    fn enter_evaluation(&self, chosen: &Chosen) -> impl FnMut(LogLine) + Send + use<> {
        (self.events)(Event::Stage { host: chosen.name.clone(), stage: Stage::Evaluate });
        listen(&self.events, Some(&chosen.name))
    }
}

/// What declares the fleet: what the operator names, or else the nearest one.
pub(crate) fn source(place: &Place) -> Result<Source, Error> {
    let here = std::env::current_dir()
        .map_err(|error| Error::new(Exit::Unable, format!("the working directory can't be read: {error}")))?;
    let found = match (&place.flake, &place.hive) {
        (Some(reference), None) => Source::flake(reference, &here),
        (None, Some(path)) => Source::hive(path, &here),
        (None, None) => Source::find(&here),
        // The parser sees it only where both stand on the same side of the command.
        (Some(_), Some(_)) => {
            return Err(Error::new(Exit::Usage, "`--flake` and `--hive` exclude one another")
                .hint("a fleet is in the one or in the other"));
        }
    };
    found.map_err(|error| Error::new(Exit::Usage, error.to_string()).hint(error.hint()))
}

/// Does the same for all hosts at once, and gives what came of each, in the order of their names.
pub(crate) async fn each<I, T, F>(items: Vec<I>, work: impl Fn(I) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let work = work(item);
        tasks.spawn(async move { (index, work.await) });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => done.push(result),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// An error of Nix as what came of a host.
pub(crate) fn failed(stage: Stage, error: &bosco_nix::Error) -> Outcome {
    match error {
        bosco_nix::Error::Stopped => Outcome::Interrupted { stage },
        _ => Outcome::failed(stage, error.to_string(), error.hint()),
    }
}

/// Turns what Nix says into events.
pub(crate) fn listen(events: &Sink, host: Option<&HostName>) -> impl FnMut(LogLine) + Send + use<> {
    let (events, host) = (events.clone(), host.cloned());
    move |line| match line {
        // Each evaluation says so; it is said once.
        LogLine::Warning(text) if text.starts_with("Git tree ") && host.is_some() => {}
        LogLine::Warning(text) => events(Event::Warning { host: host.clone(), text }),
        // What an evaluation says is an error's trace, which the outcome tells better.
        LogLine::Progress(_) | LogLine::Building(_) | LogLine::Fetching(_) if host.is_some() => {}
        LogLine::ToBuild(_) | LogLine::ToFetch(..) if host.is_some() => {}
        LogLine::ToBuild(derivations) => events(Event::Work { derivations, paths: 0, download: None }),
        LogLine::ToFetch(paths, size) => events(Event::Work { derivations: 0, paths, download: Some(size) }),
        LogLine::Building(name) => events(Event::At { building: Some(name), fetching: None }),
        LogLine::Fetching(name) => events(Event::At { building: None, fetching: Some(name) }),
        LogLine::Progress(text) => events(Event::Said { text }),
    }
}

/// As many as there are processors, and as have room in memory.
fn evaluations_side_by_side() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    let room =
        available.map_or(processors, |kib| usize::try_from(kib * 1024 / MEMORY_PER_EVALUATION).unwrap_or(1));
    processors.min(room).max(1)
}

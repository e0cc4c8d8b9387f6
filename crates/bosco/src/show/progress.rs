//! For a person at a terminal: what each host is at and for how long, calm however many there are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bosco_model::HostName;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::consent::is_yes;
use crate::event::{Event, Stage};
use crate::outcome::Outcome;
use crate::show::Show;
use crate::show::difference::differences_in_short;
use crate::show::lines::{at, held_back, many, mended, summary, troubles, work};
use crate::show::style::{DIM, of_outcome, warning};
use crate::show::terminal::{password, typed};

/// How many hosts have a line of their own while they are at work.
const SHOWN: usize = 12;

pub(crate) struct Progress {
    verbose: bool,
    bars: MultiProgress,
    state: Mutex<Shown>,
}

struct Shown {
    /// The hosts that are at work, with their lines where they have one.
    working: BTreeMap<HostName, Working>,
    total: ProgressBar,
    known: HashSet<HostName>,
    done: usize,
    warned: HashSet<String>,
    nix: Work,
    said: String,
    /// How many bytes went to each host.
    copied: HashMap<HostName, u64>,
}

/// What Nix has to build and to fetch, and how much of it has begun.
#[derive(Default)]
struct Work {
    to_build: usize,
    building: usize,
    to_fetch: usize,
    fetching: usize,
}

struct Working {
    stage: Stage,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(verbose: bool) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let total = ticking(bars.add(bar("{spinner} {msg}")));
        let state = Shown {
            working: BTreeMap::new(),
            total,
            known: HashSet::new(),
            done: 0,
            warned: HashSet::new(),
            nix: Work::default(),
            said: String::new(),
            copied: HashMap::new(),
        };
        Self { verbose, bars, state: Mutex::new(state) }
    }

    /// Asks the operator. Nothing is drawn meanwhile, and nobody who draws is kept waiting.
    fn ask<T>(&self, question: impl FnOnce() -> T) -> T {
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
        let answer = question();
        self.bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        answer
    }

    /// Prints above the bars.
    fn print(&self, write: impl FnOnce()) {
        self.bars.suspend(write);
    }
}

/// Makes a line's spinner turn by itself. Only where it has its place among the others: by itself it would draw anywhere.
fn ticking(bar: ProgressBar) -> ProgressBar {
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A line with a spinner.
fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    bar
}

impl Shown {
    fn enter(&mut self, bars: &MultiProgress, host: &HostName, stage: Stage) {
        self.known.insert(host.clone());
        let shown = self.working.values().filter(|working| working.bar.is_some()).count();
        let working = self.working.entry(host.clone()).or_insert(Working { stage, bar: None });
        // A few lines are enough; the total counts everybody.
        if working.bar.is_none() && shown < SHOWN {
            let line = ticking(bars.insert_before(&self.total, bar("{spinner} {prefix} {msg} {elapsed}")));
            line.set_prefix(format!("{host:<20}"));
            working.bar = Some(line);
        }
        working.stage = stage;
        if let Some(line) = &working.bar {
            line.reset_elapsed();
            line.set_message(stage.doing());
        }
        self.count();
    }

    fn detail(&mut self, host: &HostName, text: &str) {
        if let Some(Working { stage, bar: Some(line), .. }) = self.working.get(host) {
            let text: String = text.chars().take(60).collect();
            line.set_message(format!("{} {text}", stage.doing()));
        }
    }

    /// What a builder says stands beside the total: it is for all hosts that need what it makes.
    fn saying(&mut self, text: &str) {
        self.said = text.chars().take(60).collect();
        self.count();
    }

    /// A host is at work no more, and is counted as done or not at all.
    fn end(&mut self, host: &HostName, counts: bool) {
        let Some(working) = self.working.remove(host) else { return };
        if let Some(line) = working.bar {
            line.finish_and_clear();
        }
        if counts {
            self.done += 1;
        } else {
            self.known.remove(host);
        }
        self.count();
    }

    fn count(&self) {
        let mut stages: BTreeMap<Stage, usize> = BTreeMap::new();
        for working in self.working.values() {
            *stages.entry(working.stage).or_default() += 1;
        }
        let parts: Vec<_> =
            stages.iter().map(|(stage, count)| format!("{count} {}", stage.doing())).collect();
        let said = if stages.contains_key(&Stage::Build) { self.said.as_str() } else { "" };
        let nix = &self.nix;
        let of = |done: usize, all: usize, what| {
            if all > 0 { format!("  {what} {done}/{all}") } else { String::new() }
        };
        let said = if said.is_empty() {
            String::new()
        } else {
            let built = of(nix.building, nix.to_build, "derivation");
            format!("{built}{}  {said}", of(nix.fetching, nix.to_fetch, "path"))
        };
        let (done, known) = (self.done, self.known.len());
        self.total.set_message(format!("{done} of {known} done  {}  {said}", parts.join(", ")));
    }
}

impl Show for Progress {
    fn event(&self, event: &Event) {
        match event {
            Event::Question { compared, answer } => {
                return answer.give(self.ask(|| {
                    differences_in_short(compared);
                    is_yes(&typed("go on? [Y/n] "))
                }));
            }
            Event::Password { asked, answer } => {
                let again = if asked.again { "that is not the password; " } else { "" };
                let question = format!("{again}password of sudo on {}: ", asked.target);
                return answer.give(self.ask(|| password(&question)));
            }
            _ => {}
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Fleet { .. } | Event::Question { .. } | Event::Password { .. } => {}
            Event::Stage { host, stage } => state.enter(&self.bars, host, *stage),
            Event::Warning { host, text } => {
                if state.warned.insert(text.clone()) {
                    self.print(|| warning(host.as_ref(), text));
                }
            }
            Event::Work { derivations, paths, download } => {
                state.nix.to_build += derivations;
                state.nix.to_fetch += paths;
                state.saying(&work(*derivations, *paths, download.as_deref()));
            }
            Event::At { building, fetching } => {
                let nix = &mut state.nix;
                nix.building = (nix.building + usize::from(building.is_some())).min(nix.to_build);
                nix.fetching = (nix.fetching + usize::from(fetching.is_some())).min(nix.to_fetch);
                let (doing, name) = at(building.as_deref(), fetching.as_deref());
                state.saying(&format!("{doing} {name}"));
            }
            Event::Said { text } => {
                if self.verbose {
                    self.print(|| err!("{DIM}|{DIM:#} {text}"));
                } else {
                    state.saying(text);
                }
            }
            Event::Fetching { host, paths, of } => {
                state.detail(host, &format!("{} from its caches, {}", many(*paths, "path"), HumanBytes(*of)));
            }
            Event::Copied { host, paths, bytes, of } => {
                state.copied.insert(host.clone(), *bytes);
                state.detail(
                    host,
                    &format!(
                        "{}, {} of {}",
                        many(*paths, "path"),
                        HumanBytes(*bytes.min(of)),
                        HumanBytes(*of)
                    ),
                );
            }
            Event::Through { host } => self.print(|| err!("{host}: through the hub")),
            Event::Uploading { paths, bytes, of } => {
                state.total.set_message(format!(
                    "sending the hub {}, {} of {}",
                    many(*paths, "path"),
                    HumanBytes(*bytes),
                    HumanBytes(*of)
                ));
            }
            Event::Mending { host, paths, of } => {
                state.detail(host, &format!("mending {}, {}", many(*paths, "damaged path"), HumanBytes(*of)));
            }
            Event::Mended { host, path } => self.print(|| mended(host, path)),
            Event::Away { host, reason, seconds } => {
                state.detail(host, &format!("{reason}; waiting for it, at most {seconds} s"));
            }
            Event::Activating { host, effect } => state.detail(host, effect.doing()),
            Event::Ended { host, seconds, outcome } => {
                state.end(host, true);
                let style = of_outcome(outcome);
                let kind = outcome.kind();
                let copied = state.copied.remove(host);
                let copied =
                    copied.map(|bytes| format!("{} copied, ", HumanBytes(bytes))).unwrap_or_default();
                self.print(|| {
                    err!("{host:<20} {style}{kind}{style:#} {DIM}({copied}{seconds:.1} s){DIM:#}");
                });
            }
            Event::Done { host } => state.end(host, false),
            Event::HeldBack { missing } => self.print(|| held_back(missing)),
        }
    }

    fn summary(&self, outcomes: &[(HostName, Outcome)]) {
        self.clear();
        // With few hosts, the lines above have said what went well.
        if outcomes.len() > SHOWN
            || outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Built { .. }))
        {
            return summary(outcomes);
        }
        troubles(outcomes);
    }

    fn clear(&self) {
        let _ = self.bars.clear();
        // The spinners turn by themselves, and would come back.
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

//! For logs and pipes: plain lines.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bosco_model::{HostName, StorePath};

use crate::event::{Event, Stage};
use crate::outcome::Outcome;
use crate::show::Show;
use crate::show::style::{DIM, STRONG, failures, names, of_outcome, warning};

/// A line for each thing that happens.
pub(crate) struct Lines {
    verbose: bool,
    warned: Warned,
}

/// Warnings and nothing else.
#[derive(Default)]
pub(crate) struct Warnings {
    warned: Warned,
}

/// Warnings that were shown: hosts that share a module share its warnings.
#[derive(Default)]
struct Warned(Mutex<HashSet<String>>);

impl Warned {
    fn warn(&self, host: Option<&HostName>, text: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
            warning(host, text);
        }
    }
}

impl Lines {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, warned: Warned::default() }
    }
}

impl Show for Lines {
    fn event(&self, event: &Event) {
        match event {
            Event::Fleet { source, hosts, .. } => {
                err!("{STRONG}{source}{STRONG:#}: {hosts} {}", if *hosts == 1 { "host" } else { "hosts" });
            }
            Event::Stage { stage: Stage::Wait, .. } => {}
            Event::Stage { host, stage } => err!("{host}: {}", stage.doing()),
            Event::Warning { host, text } => self.warned.warn(host.as_ref(), text),
            Event::Work { derivations, paths, download } => {
                err!("{}", work(*derivations, *paths, download.as_deref()));
            }
            Event::At { building, fetching } => {
                if self.verbose {
                    let (doing, name) = at(building.as_deref(), fetching.as_deref());
                    err!("{DIM}|{DIM:#} {doing} {name}");
                }
            }
            Event::Said { text } => {
                if self.verbose {
                    err!("{DIM}|{DIM:#} {text}");
                }
            }
            Event::Fetching { host, paths, of } => {
                err!(
                    "{host}: fetching {} from its caches, {}",
                    many(*paths, "path"),
                    indicatif::HumanBytes(*of)
                );
            }
            Event::Copied { host, paths, bytes: 0, of } => {
                err!("{host}: copying {}, {}", many(*paths, "path"), indicatif::HumanBytes(*of));
            }
            Event::Through { host } => err!("{host}: through the hub"),
            Event::Uploading { paths, bytes: 0, of } => {
                err!("sending the hub {}, {}", many(*paths, "path"), indicatif::HumanBytes(*of));
            }
            Event::Mending { host, paths, of } => {
                err!("{host}: mending {}, {}", many(*paths, "damaged path"), indicatif::HumanBytes(*of));
            }
            Event::Mended { host, path } => mended(host, path),
            Event::Away { host, reason, seconds } => {
                err!("{host}: {reason}; waiting for it, at most {seconds} s");
            }
            Event::Activating { host, effect } => {
                if self.verbose {
                    err!("{host}: {}", effect.doing());
                }
            }
            // It is asked at a terminal only.
            Event::Question { .. }
            | Event::Password { .. }
            | Event::Copied { .. }
            | Event::Uploading { .. }
            | Event::Done { .. } => {}
            Event::Ended { host, seconds, outcome } => {
                let style = of_outcome(outcome);
                let kind = outcome.kind();
                err!("{host}: {style}{kind}{style:#} {DIM}({seconds:.1} s){DIM:#}");
            }
            Event::HeldBack { missing } => held_back(missing),
        }
    }

    fn summary(&self, outcomes: &[(HostName, Outcome)]) {
        summary(outcomes);
    }

    fn clear(&self) {}
}

impl Show for Warnings {
    fn event(&self, event: &Event) {
        match event {
            Event::Warning { host, text } => self.warned.warn(host.as_ref(), text),
            Event::Through { host } => err!("{host}: through the hub"),
            _ => {}
        }
    }

    fn summary(&self, _: &[(HostName, Outcome)]) {}

    fn clear(&self) {}
}

/// So many of something.
pub(super) fn many(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// What Nix has to do.
pub(super) fn work(derivations: usize, paths: usize, download: Option<&str>) -> String {
    let many =
        |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    match download {
        Some(download) => format!("fetching {}, {download}", many(paths, "path")),
        None => format!("building {}", many(derivations, "derivation")),
    }
}

/// What Nix is at.
pub(super) fn at<'a>(building: Option<&'a str>, fetching: Option<&'a str>) -> (&'static str, &'a str) {
    match (building, fetching) {
        (Some(name), _) => ("building", name),
        (None, name) => ("fetching", name.unwrap_or_default()),
    }
}

/// That a host's disk, or a power cut, had damaged a path: who looks after it has to know.
pub(super) fn mended(host: &HostName, path: &StorePath) {
    err!("{host}: mended {path}, which was damaged there");
}

pub(super) fn held_back(missing: &[HostName]) {
    err!("nothing is delivered, because of {}", names(&missing.iter().collect::<Vec<_>>()));
}

/// What the operator has to be told of hosts at length.
pub(super) fn troubles(outcomes: &[(HostName, Outcome)]) {
    let troubles = outcomes.iter().filter(|(_, outcome)| outcome.wants_telling());
    failures(troubles.map(|(host, outcome)| (host, outcome)));
}

/// What was done to whom. What went well is counted; what did not is told at length.
pub(super) fn summary(outcomes: &[(HostName, Outcome)]) {
    troubles(outcomes);
    let mut groups: Vec<(String, Vec<&HostName>, &Outcome)> = Vec::new();
    for (host, outcome) in outcomes {
        if matches!(outcome, Outcome::Built { .. }) {
            out!("{host}: {}", outcome.words());
            continue;
        }
        let kind = outcome.kind();
        match groups.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, hosts, _)) => hosts.push(host),
            None => groups.push((kind, vec![host], outcome)),
        }
    }
    for (kind, hosts, outcome) in groups {
        let style = of_outcome(outcome);
        out!("{style}{:>4} {kind}{style:#}: {}", hosts.len(), names(&hosts));
    }
}

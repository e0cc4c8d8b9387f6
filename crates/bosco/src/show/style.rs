//! Colours, and what is printed the same way everywhere.

use anstyle::{AnsiColor, Style};
use bosco_model::{HostName, State};

use crate::error::{Error, Exit};
use crate::finding::{Finding, Level};
use crate::outcome::{Outcome, alike};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const STRONG: Style = Style::new().bold();

/// How many lines of a program's output are shown without `--verbose`: what failed stands at its end.
const LINES: usize = 25;

pub(super) fn of_outcome(outcome: &Outcome) -> Style {
    match (outcome.exit(), outcome) {
        (_, Outcome::HeldBack | Outcome::Declined | Outcome::Waits { .. } | Outcome::LocalOnly) => DIM,
        (Exit::Done, _) => GOOD,
        (Exit::Unreachable | Exit::Interrupted, _) => ODD,
        _ => BAD,
    }
}

/// A state in its colour.
pub(crate) fn state(state: State) -> String {
    let style = match state {
        State::UpToDate => GOOD,
        State::Pending
        | State::Updating
        | State::BootPending
        | State::RebootNeeded
        | State::Held
        | State::Drifted => ODD,
        State::NotCommitted
        | State::Reverted
        | State::Inconclusive
        | State::Quarantined
        | State::Failing
        | State::NoAccess
        | State::Unfit
        | State::NotEvaluated => BAD,
        State::Offline | State::LocalOnly | State::New => DIM,
    };
    format!("{style}{state}{style:#}")
}

pub(super) fn error(error: &Error) {
    err!("{BAD}error:{BAD:#} {}", error.message);
    hint("", error.hint.as_deref());
}

/// What a check has found, each with what to do, and how much in the end.
pub(super) fn findings(findings: &[Finding], fixed: &[String]) {
    for one in fixed {
        out!("{GOOD}fixed:{GOOD:#} {one}");
    }
    for finding in findings {
        let (style, word) = match finding.level {
            Level::Error => (BAD, "error"),
            Level::Warning => (ODD, "warning"),
        };
        out!("{style}{word}:{style:#} {}", finding.words());
        out!("  {DIM}{}{DIM:#}", finding.hint);
    }
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    match (of(Level::Error), of(Level::Warning)) {
        (0, 0) => out!("nothing is wrong"),
        (0, warnings) => out!("nothing is wrong; {warnings} to be looked at"),
        (errors, 0) => out!("{errors} to be put right"),
        (errors, warnings) => out!("{errors} to be put right, {warnings} to be looked at"),
    }
}

pub(super) fn warning(host: Option<&HostName>, text: &str) {
    let host = host.map(|host| format!("{host}: ")).unwrap_or_default();
    err!("{ODD}warning:{ODD:#} {host}{text}");
}

pub(super) fn hint(indent: &str, hint: Option<&str>) {
    if let Some(hint) = hint {
        err!("{indent}{DIM}hint:{DIM:#} {hint}");
    }
}

/// How many hosts are named where many have the same to say.
pub(super) const NAMED: usize = 8;

/// Names of hosts, the first of many.
pub(super) fn names(hosts: &[&HostName]) -> String {
    let named: Vec<_> = hosts.iter().take(NAMED).map(|host| host.as_str()).collect();
    let more = hosts.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// What hosts said to a command, and how it ended there.
pub(crate) fn block(hosts: &[&HostName], exit_code: i32, output: &str, cut: bool) {
    let (style, ended) =
        if exit_code == 0 { (GOOD, String::new()) } else { (BAD, format!(" (exit {exit_code})")) };
    let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
    out!("{style}{}{ended}:{style:#}", hosts.join(", "));
    for line in output.lines() {
        out!("  {line}");
    }
    if cut {
        out!("  {ODD}… it said more, which was not kept{ODD:#}");
    }
}

/// What went wrong, at length; once for all hosts that have the same to say.
pub(crate) fn failures<'a>(outcomes: impl IntoIterator<Item = (&'a HostName, &'a Outcome)>) {
    for (hosts, outcome) in alike(outcomes) {
        told(&names(&hosts), outcome);
    }
}

/// What a host has reported of an activation, with the end of what was said, or all of it.
pub(crate) fn reported(of: &str, outcome: &Outcome, took: &str, log: &str, all: bool) {
    let style = of_outcome(outcome);
    out!("{of}: {style}{}{style:#} {DIM}({took}){DIM:#}", outcome.words());
    let lines: Vec<_> = log.lines().collect();
    let from = if all { 0 } else { lines.len().saturating_sub(LINES) };
    for line in &lines[from..] {
        // It was said by programs on the host.
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        out!("  {DIM}|{DIM:#} {line}");
    }
}

fn told(hosts: &str, outcome: &Outcome) {
    let style = of_outcome(outcome);
    err!("{style}{hosts}:{style:#} {}", outcome.words());
    if let Some(log) = outcome.log() {
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            err!("  {DIM}|{DIM:#} {line}");
        }
    }
    hint("  ", outcome.hint());
}

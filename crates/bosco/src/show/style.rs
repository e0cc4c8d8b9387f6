//! Colours, and what is printed the same way everywhere.

use anstyle::{AnsiColor, Style};
use bosco_model::{HostName, State};

use crate::error::{Error, Exit};
use crate::outcome::Outcome;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const STRONG: Style = Style::new().bold();

/// How many lines of a program's output are shown without `--verbose`: what failed stands at its end.
const LINES: usize = 25;

pub(super) fn of_outcome(outcome: &Outcome) -> Style {
    match (outcome.exit(), outcome) {
        (_, Outcome::HeldBack | Outcome::LocalOnly) => DIM,
        (Exit::Done, _) => GOOD,
        (Exit::Unreachable | Exit::Interrupted, _) => ODD,
        _ => BAD,
    }
}

/// A state in its colour.
pub(crate) fn state(state: State) -> String {
    let style = match state {
        State::UpToDate => GOOD,
        State::Pending | State::Updating | State::BootPending | State::RebootNeeded => ODD,
        State::NotCommitted | State::NoAccess | State::Unfit => BAD,
        State::Offline | State::LocalOnly => DIM,
    };
    format!("{style}{state}{style:#}")
}

pub(super) fn error(error: &Error) {
    err!("{BAD}error:{BAD:#} {}", error.message);
    hint("", error.hint.as_deref());
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

/// What went wrong with a host, at length.
pub(crate) fn failure(host: &HostName, outcome: &Outcome) {
    let style = of_outcome(outcome);
    err!("{style}{host}:{style:#} {}", outcome.words());
    if let Some(log) = outcome.log() {
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            err!("  {DIM}|{DIM:#} {line}");
        }
    }
    hint("  ", outcome.hint());
}

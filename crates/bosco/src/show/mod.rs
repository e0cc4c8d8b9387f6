//! How a person or a script sees what happens. Progress goes to the standard error stream, answers to the standard
//! output; nothing else in this program writes to either.

/// Prints a line of an answer. Who has closed the pipe gets no more, and that is all.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write;
        if let Err(error) = writeln!(anstream::stdout(), $($text)*) {
            crate::show::unwritten(&error);
        }
    }};
}

/// Prints a line beside the answer.
macro_rules! err {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(anstream::stderr(), $($text)*);
    }};
}

mod difference;
mod json;
mod lines;
mod progress;
mod style;
mod table;
mod terminal;
mod time;

use std::io::{self, IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosco_model::HostName;
use serde::Serialize;

pub(crate) use self::difference::{differences, unchanged};
pub(crate) use self::style::{block, failures, reported, state};
pub(crate) use self::table::Table;
pub(crate) use self::terminal::restore;
pub(crate) use self::time::{ago, now, span};
use crate::cli::Cli;
use crate::error::{Error, Exit};
use crate::event::Event;
use crate::finding::{self, Finding};
use crate::outcome::Outcome;

/// Whether a part of the answer could not be written.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

fn unwritten(error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        UNWRITTEN.store(true, Ordering::Relaxed);
    }
}

/// Whether all of the answer was written, as far as anybody wanted it.
pub(crate) fn is_written() -> bool {
    !UNWRITTEN.load(Ordering::Relaxed)
}

/// A way to show what happens.
pub(crate) trait Show: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
    /// What came of everything, at the end.
    fn summary(&self, outcomes: &[(HostName, Outcome)]);
    /// Takes away what is not to stay.
    fn clear(&self);
}

/// For a command whose work is what is of interest.
pub(crate) fn for_work(cli: &Cli) -> Arc<dyn Show> {
    if cli.json {
        Arc::new(json::Json)
    } else if stderr().is_terminal() {
        Arc::new(progress::Progress::new(cli.verbose))
    } else {
        Arc::new(lines::Lines::new(cli.verbose))
    }
}

/// For a command whose answer is what is of interest: its work is seen only by who waits for it.
pub(crate) fn for_answer(cli: &Cli) -> Arc<dyn Show> {
    if !cli.json && stderr().is_terminal() {
        Arc::new(progress::Progress::new(cli.verbose))
    } else {
        Arc::new(lines::Warnings::default())
    }
}

/// Whether somebody sits there who can be asked.
pub(crate) fn can_ask(cli: &Cli) -> bool {
    !cli.json && stderr().is_terminal() && io::stdin().is_terminal()
}

/// Prints an answer that has its form already.
pub(crate) fn text(answer: &str) {
    out!("{answer}");
}

/// Prints bytes as they are.
pub(crate) fn bytes(answer: &[u8]) {
    let mut out = io::stdout();
    if let Err(error) = out.write_all(answer).and_then(|()| out.flush()) {
        unwritten(&error);
    }
}

/// What a check has come to.
#[derive(Serialize)]
struct Checked<'a> {
    findings: &'a [Finding],
    /// What was put right before.
    fixed: &'a [String],
}

/// Prints what a check has found, and says how it ends.
pub(crate) fn findings(findings: &[Finding], fixed: &[String], as_json: bool) -> Exit {
    if as_json {
        json(&Checked { findings, fixed });
    } else {
        style::findings(findings, fixed);
    }
    if finding::fails(findings) { Exit::NotBuilt } else { Exit::Done }
}

/// Prints a line of what a program does that runs without end.
pub(crate) fn log(line: &str) {
    err!("{line}");
}

/// Prints an answer as one JSON document.
pub(crate) fn json(answer: &impl Serialize) {
    json::print(answer, true);
}

/// Prints a part of an answer as one line of JSON.
pub(crate) fn json_line(answer: &impl Serialize) {
    json::print(answer, false);
}

/// Begins what is shown anew, at the top of the terminal.
pub(crate) fn screen() {
    let mut out = io::stdout();
    let _ = out.write_all(b"\x1b[2J\x1b[H").and_then(|()| out.flush());
}

/// As much of a commit as people read.
pub(crate) fn commit(commit: &str) -> String {
    commit.chars().filter(|c| !c.is_control()).take(7).collect()
}

/// Prints why a command could not do its work.
pub(crate) fn error(error: &Error, as_json: bool) {
    if as_json {
        json::print(error, false);
    } else {
        style::error(error);
    }
}

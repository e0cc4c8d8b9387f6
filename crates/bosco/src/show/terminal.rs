//! What somebody types at the terminal.

use std::io::{self, Write, stderr};
use std::sync::{Mutex, PoisonError};

use bosco_secrets::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The longest line that is read, in bytes: a terminal gives no longer one.
const MAX_LINE: usize = 4096;

/// How the terminal was before what is typed was hidden.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Asks, and gives the line that is typed; nothing where the input has ended.
pub(super) fn typed(question: &str) -> String {
    print(question);
    let mut line = String::new();
    let _ = io::stdin().read_line(&mut line);
    line
}

/// Asks for what nobody may see, and gives it without its end. `None` where nothing is typed, or can't be hidden.
pub(super) fn password(question: &str) -> Option<Secret> {
    let input = io::stdin();
    let before = tcgetattr(&input).ok()?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    tcsetattr(&input, OptionalActions::Drain, &hidden).ok()?;
    print(question);
    let mut line = Zeroizing::new(vec![0; MAX_LINE]);
    // A terminal gives one line at a time.
    let read = rustix::io::read(&input, &mut line[..]).unwrap_or(0);
    restore();
    let typed = line[..read].strip_suffix(b"\n").filter(|typed| !typed.is_empty())?;
    Some(Secret::new(typed.to_vec()))
}

/// Has the terminal show again what is typed, where somebody has stopped bosco while it did not.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &before);
    }
}

fn print(question: &str) {
    let mut out = stderr();
    let _ = out.write_all(question.as_bytes()).and_then(|()| out.flush());
}

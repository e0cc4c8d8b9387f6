//! The one place that writes to the terminal.

use std::io::Write;

/// One line to standard error. A reader that has gone away does not stop a switch.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `WORDS: a, b, c` if there are any, in the order that people read names in.
pub(crate) fn say_units<'a>(words: &str, units: impl IntoIterator<Item = &'a String>) {
    let mut units: Vec<&str> = units.into_iter().map(String::as_str).collect();
    if units.is_empty() {
        return;
    }
    units.sort_by_key(|name| name.to_lowercase());
    say(&format!("{words}: {}", units.join(", ")));
}

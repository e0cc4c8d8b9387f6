//! Times, as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Less than this, in seconds, is now.
const NOW: u64 = 5;

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A span of so many seconds.
pub(crate) fn span(seconds: u64) -> String {
    format!("{:#}", indicatif::HumanDuration(Duration::from_secs(seconds)))
}

/// How long ago that was. Clocks differ: what is to come is now.
pub(crate) fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        past if past < NOW => "now".into(),
        past => format!("{} ago", span(past)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_and_what_is_to_come() {
        assert_eq!(ago(100, 160), "60s ago");
        assert_eq!((ago(100, 102).as_str(), ago(200, 100).as_str()), ("now", "now"));
    }
}

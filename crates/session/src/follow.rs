//! How an activation goes on, read from what the helper says of it: over an operator's connection, or beside it on the host.
//! Pure.

use bosco_activation::{Busy, Report, Told};

use crate::answer::{self, Line, Unreadable};

/// How much is kept of what programs on the host say, in bytes.
pub(crate) const MAX_LOG: usize = 128 * 1024;

/// How far an activation has come, as far as one process of the helper brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It has ended, and this is the end of its log.
    Ended(Box<Report>, String),
    /// A fresh connection has to come within so many seconds, and has to bring this word.
    Waiting(u64, String),
    /// The host goes down, and has to be reached again within so many seconds.
    Rebooting(u64),
    /// It is too early for a fresh connection.
    Early,
    /// The host knows of no such activation.
    Unknown,
    /// Somebody else is at one.
    Busy(Option<Busy>),
}

/// What a line comes to, where it is one that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The activation is there, and nothing more has to be read.
    Stage(Stage),
    /// The answer has ended: [`Following::end`] says what it was.
    Done,
}

/// What the helper has said so far.
#[derive(Debug, Default)]
pub struct Following {
    log: String,
    report: Option<Box<Report>>,
    begun: bool,
}

/// The helper has ended, and the activation has not; with its last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unended {
    /// The activation never began.
    NotBegun(String),
    /// It goes on, without anybody who follows it.
    Lost(String),
}

impl Following {
    /// Takes one line; `tell` hears what was told in it.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn line(
        &mut self,
        text: &str,
        tell: &mut (dyn FnMut(&Told) + Send),
    ) -> Result<Option<Heard>, Unreadable> {
        if text.is_empty() {
            return Ok(None);
        }
        match answer::line(text)? {
            Line::Fact("told", value) => {
                let told = answer::told(value)?;
                tell(&told);
                self.begun = true;
                return Ok(self.told(told).map(Heard::Stage));
            }
            Line::Log(line) if self.log.len() < MAX_LOG => {
                self.log.push_str(line);
                self.log.push('\n');
            }
            Line::Log(_) | Line::Fact(..) => {}
            Line::Done(_) => return Ok(Some(Heard::Done)),
        }
        Ok(None)
    }

    fn told(&mut self, told: Told) -> Option<Stage> {
        match told {
            Told::Waiting { seconds, token } => Some(Stage::Waiting(seconds, token)),
            Told::Rebooting { seconds } => Some(Stage::Rebooting(seconds)),
            Told::Early => Some(Stage::Early),
            Told::Unknown => Some(Stage::Unknown),
            Told::Busy { busy } => Some(Stage::Busy(busy)),
            Told::Ended { report } => {
                self.report = Some(report);
                None
            }
            Told::Begun { .. } | Told::Doing { .. } | Told::Warning { .. } => None,
        }
    }

    /// What it comes to, where nothing more is said.
    ///
    /// # Errors
    /// [`Unended`].
    pub fn end(self) -> Result<Stage, Unended> {
        match self.report {
            Some(report) => Ok(Stage::Ended(report, self.log)),
            None if self.begun => Err(Unended::Lost(why(&self.log))),
            None => Err(Unended::NotBegun(why(&self.log))),
        }
    }
}

/// Why a program failed, on one line: its last error with what it says of it, or else its last line.
pub(crate) fn why(log: &str) -> String {
    const LONGEST: usize = 500;
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error:"));
    let from = error.unwrap_or(lines.len().saturating_sub(1));
    let text = lines.get(from..).unwrap_or_default().join(" ");
    match text.strip_prefix("error:").unwrap_or(&text).trim() {
        "" => "it said nothing".into(),
        text => text.chars().take(LONGEST).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_failure_is_told_with_all_that_its_last_error_says() {
        let log = "copying\nerror: hash mismatch importing path 'x';\n         specified: a\n         got:       b\n";
        assert_eq!(why(log), "hash mismatch importing path 'x'; specified: a got:       b");
        assert_eq!(why("Unit x was already loaded.\n\n"), "Unit x was already loaded.");
        assert_eq!(why(""), "it said nothing");
    }

    #[test]
    fn what_a_helper_says_comes_to_a_stage_or_to_why_there_is_none() {
        let read = |lines: &[&str]| {
            let mut following = Following::default();
            for line in lines {
                if let Some(Heard::Stage(stage)) = following.line(line, &mut |_| {}).unwrap() {
                    return Ok(stage);
                }
            }
            following.end()
        };
        let begun = r#"told {"told":"begun","seconds":600}"#;
        let waiting = r#"told {"told":"waiting","seconds":60,"token":"x"}"#;
        assert_eq!(read(&[begun, "", waiting]), Ok(Stage::Waiting(60, "x".into())));
        assert_eq!(read(&[begun, "log bad"]), Err(Unended::Lost("bad".into())));
        assert_eq!(read(&["log bad"]), Err(Unended::NotBegun("bad".into())));
    }

    proptest! {
        #[test]
        fn no_line_makes_following_panic(lines in prop::collection::vec("(told|log|done)? ?\\PC{0,40}", 0..5)) {
            let mut following = Following::default();
            for line in &lines {
                let _ = following.line(line, &mut |_| {});
            }
            let _ = following.end();
        }
    }
}

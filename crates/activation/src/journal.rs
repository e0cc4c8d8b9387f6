//! What a host remembers of its activations, on its disk.

use bosco_model::StorePath;
use serde::{Deserialize, Serialize};

use crate::{Attempt, Cause, Ending};

/// How many systems a host keeps in mind that failed there; older ones are forgotten.
const REMEMBERED: usize = 50;

/// What a host remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// The attempt that is under way, or was the last one.
    #[serde(default)]
    pub attempt: Option<Attempt>,
    /// Which boot that was in: the journal of an earlier one tells of a machine that has gone down since.
    #[serde(default)]
    pub boot: String,
    /// When the attempt ended, in seconds since 1970.
    #[serde(default)]
    pub ended: Option<u64>,
    /// Systems that failed here, and are not tried again until an operator says so.
    #[serde(default)]
    pub quarantine: Vec<Quarantined>,
    /// Systems whose activation was interrupted.
    #[serde(default)]
    pub interrupted: Vec<StorePath>,
}

/// What could not be understood of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// All was.
    Nothing,
    /// Something that is over.
    Something,
    /// An attempt that has not ended.
    OpenAttempt,
}

/// A system that failed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The system.
    pub toplevel: StorePath,
    /// What it did, in words.
    pub why: String,
    /// When, in seconds since 1970.
    pub since: u64,
}

impl Journal {
    /// Reads a journal, of another version of bosco perhaps: what can't be understood of it is left out. Second is whether an
    /// attempt was left out, third whether it is known to have ended.
    ///
    /// # Errors
    /// Where the text is no JSON at all.
    pub fn read(text: &[u8]) -> Result<(Self, Unread), serde_json::Error> {
        let mut value: serde_json::Value = serde_json::from_slice(text)?;
        if let Ok(journal) = serde_json::from_value(value.clone()) {
            return Ok((journal, Unread::Nothing));
        }
        let attempt = value["attempt"].take();
        let part = |name: &str| value.get(name).cloned().unwrap_or_default();
        let journal = Self {
            attempt: None,
            boot: String::new(),
            ended: None,
            quarantine: serde_json::from_value(part("quarantine")).unwrap_or_default(),
            interrupted: serde_json::from_value(part("interrupted")).unwrap_or_default(),
        };
        let open = !attempt.is_null() && attempt["state"] != "ended";
        Ok((journal, if open { Unread::OpenAttempt } else { Unread::Something }))
    }

    /// The attempt that has not ended.
    #[must_use]
    pub fn open(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.ending().is_none())
    }

    /// Why a system is in quarantine, if it is.
    #[must_use]
    pub fn quarantined(&self, toplevel: &StorePath) -> Option<&Quarantined> {
        self.quarantine.iter().find(|one| one.toplevel == *toplevel)
    }

    /// Draws the consequences of the attempt's end: what failed by its own fault, or was interrupted twice, is not tried
    /// again; what was committed has nothing held against it.
    pub fn close(&mut self, now: u64) {
        let Some(attempt) = &self.attempt else { return };
        let Some(ending) = attempt.ending() else { return };
        let (toplevel, ending) = (attempt.request.toplevel.clone(), ending.clone());
        self.ended = Some(now);
        match ending {
            Ending::Reverted { cause } => self.condemn(toplevel, cause.to_string(), now),
            Ending::Inconclusive { cause: cause @ Cause::Interrupted { .. } } => {
                if self.interrupted.contains(&toplevel) {
                    self.condemn(toplevel, format!("{cause}, for the second time"), now);
                } else {
                    self.interrupted.push(toplevel);
                    cap(&mut self.interrupted);
                }
            }
            Ending::Committed { proven: true, .. } => {
                self.forgive(&toplevel);
            }
            Ending::Committed { .. } | Ending::Inconclusive { .. } | Ending::Refused { .. } => {}
        }
    }

    /// Forgets what was held against a system. Whether there was anything.
    pub fn forgive(&mut self, toplevel: &StorePath) -> bool {
        let held = self.quarantined(toplevel).is_some();
        self.quarantine.retain(|one| one.toplevel != *toplevel);
        self.interrupted.retain(|one| one != toplevel);
        held
    }

    fn condemn(&mut self, toplevel: StorePath, why: String, since: u64) {
        self.forgive(&toplevel);
        self.quarantine.push(Quarantined { toplevel, why, since });
        cap(&mut self.quarantine);
    }
}

fn cap<T>(all: &mut Vec<T>) {
    let excess = all.len().saturating_sub(REMEMBERED);
    all.drain(..excess);
}

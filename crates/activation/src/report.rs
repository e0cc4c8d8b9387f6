//! What a host tells of an attempt: to who follows it, and in the end.

use bosco_model::StorePath;
use serde::{Deserialize, Serialize};

use crate::{Attempt, Effect, Ending, State};

/// Something that a host tells while it is at an attempt; one line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "kebab-case")]
pub enum Told {
    /// How long it may take at most, in seconds.
    Begun {
        /// How many.
        seconds: u64,
    },
    /// It begins with something.
    Doing {
        /// With what.
        effect: Effect,
    },
    /// What would not be noticed otherwise, before anything is done.
    Warning {
        /// In words.
        text: String,
    },
    /// The candidate runs, or was booted, or what ran before runs again; a fresh connection has to come within so many
    /// seconds.
    Waiting {
        /// How many.
        seconds: u64,
        /// What that connection has to bring: nobody could know it before.
        token: String,
    },
    /// It goes down, and comes up within so many seconds, or never.
    Rebooting {
        /// How many.
        seconds: u64,
    },
    /// Too early for a fresh connection: the switch has not returned yet.
    Early,
    /// There is no such attempt.
    Unknown,
    /// Somebody else is at it.
    Busy {
        /// Who, since when and with what.
        busy: Option<Busy>,
    },
    /// It is over.
    Ended {
        /// What came of it.
        report: Box<Report>,
    },
}

/// An attempt that is under way, as others are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Who asked for it.
    pub by: String,
    /// When, in seconds since 1970 by the host's clock.
    pub since: u64,
    /// What is to run.
    pub toplevel: StorePath,
    /// What it is at.
    pub doing: Option<Effect>,
}

impl Busy {
    /// What others are told of an attempt that has not ended.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Self {
        let Attempt { request, since, .. } = attempt;
        Self {
            by: request.by.clone(),
            since: *since,
            toplevel: request.toplevel.clone(),
            doing: attempt.effect(),
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The attempt.
    pub id: String,
    /// What was to run.
    pub toplevel: StorePath,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// What runs now.
    pub running: Option<StorePath>,
    /// The generation that runs now, where it is one of the profile's.
    pub generation: Option<u32>,
    /// Why going back has failed, where it has: what the host boots next is not sure then.
    pub stuck: Option<String>,
    /// Where its log is, on the host.
    pub log: String,
}

impl Report {
    /// What came of an attempt that has ended, on a host where these run now.
    #[must_use]
    pub fn of(
        attempt: &Attempt,
        running: Option<StorePath>,
        generation: Option<u32>,
        log: String,
    ) -> Option<Self> {
        let State::Ended { ending } = &attempt.state else { return None };
        Some(Self {
            id: attempt.request.id.clone(),
            toplevel: attempt.request.toplevel.clone(),
            ending: ending.clone(),
            running,
            generation,
            stuck: attempt.stuck.as_ref().map(ToString::to_string),
            log,
        })
    }
}

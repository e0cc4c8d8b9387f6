//! Whether a host takes a manifest that it was given: a function of what it knows.

use bosco_model::HostName;
use thiserror::Error;

use crate::{Digest, Hold, Number, Opened, Sealed, Trust, Unsealed};

/// How far the clocks of a host and of who made a release may be apart, in seconds.
const SKEW: u64 = 24 * 3600;

/// What a host knows of itself when it is given a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub host: HostName,
    /// Whom it trusts.
    pub trust: Trust,
    /// The highest number that it has committed, of releases and pushes: that of its journal.
    pub highest: Number,
    /// The manifest that it has seen with the highest number that it has seen one with.
    pub seen: Option<(Number, Digest)>,
    /// What keeps it where it is.
    pub hold: Option<Hold>,
    /// Now, in seconds since 1970, by its own clock, which may be wrong.
    pub now: u64,
}

/// What becomes of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It is to be activated, unless the host runs it.
    Take(Box<Opened>),
    /// It is good, and the host stays where it was brought to by hand.
    Held(Box<Opened>, Hold),
    /// It is good but for the time: it is not activated until the clock, or the release, is right.
    Late(Box<Opened>, Late),
    /// It is not for this host to run.
    Refused(Refusal),
}

/// What is wrong with the time of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Late {
    /// It should have been replaced by now.
    #[error("the release has expired: somebody may be withholding newer ones, or the clock is wrong")]
    Expired,
    /// It was made in the future.
    #[error("the release is from the future: the clock is wrong")]
    Future,
}

/// Why a host does not take a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is not believed.
    #[error(transparent)]
    Unsealed(#[from] Unsealed),
    /// It is another host's.
    #[error("it is {0}'s")]
    OtherHost(HostName),
    /// It is another fleet's.
    #[error("it is of another fleet")]
    OtherFleet,
    /// The number goes back.
    #[error("it is release {number}, and the host has seen {highest}: somebody replays an old one")]
    Older {
        /// Its number.
        number: Number,
        /// The highest that was seen.
        highest: Number,
    },
    /// The host has come to a higher number since, by a push that does not hold it any more, or before it has forgotten what it
    /// has seen. What it runs is not gone back on: not even where somebody who can let go of holds says so.
    #[error("it is release {number}, and the host is at {highest} already: it takes the next one above that")]
    Overtaken {
        /// Its number.
        number: Number,
        /// The highest that was committed.
        highest: Number,
    },
    /// There was another one with this number.
    #[error(
        "it is another release {0} than the one that the host has seen: somebody signs two with one number"
    )]
    Forked(Number),
}

impl Refusal {
    /// Whether somebody should look into it at once: this does not happen by accident. A newer bosco that signs, an operator
    /// whom the host does not know yet and a push since are none.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::Unsealed(why) => match why {
                Unsealed::OtherKind { .. } | Unsealed::Stranger(_) | Unsealed::Unknown(_) => false,
                Unsealed::TooLong
                | Unsealed::Signature(_)
                | Unsealed::Forged(_)
                | Unsealed::Elsewhere
                | Unsealed::Mixed
                | Unsealed::Number(_) => true,
            },
            Self::Overtaken { .. } => false,
            Self::OtherHost(_) | Self::OtherFleet | Self::Older { .. } | Self::Forked(_) => true,
        }
    }
}

/// Whether a host takes a manifest.
#[must_use]
pub fn judge(known: &Known, sealed: &Sealed) -> Judged {
    let opened = match sealed.open(&known.trust) {
        Ok(opened) => opened,
        Err(why) => return Judged::Refused(why.into()),
    };
    match refusal(known, &opened) {
        Some(refusal) => Judged::Refused(refusal),
        None => timely(known, opened),
    }
}

fn refusal(known: &Known, Opened { manifest, leaf, .. }: &Opened) -> Option<Refusal> {
    if manifest.fleet != known.trust.fleet {
        return Some(Refusal::OtherFleet);
    }
    if manifest.host != known.host {
        return Some(Refusal::OtherHost(manifest.host.clone()));
    }
    match known.seen {
        Some((number, seen)) if number == manifest.number && seen != *leaf => {
            return Some(Refusal::Forked(number));
        }
        Some((number, _)) if number > manifest.number => {
            return Some(Refusal::Older { number: manifest.number, highest: number });
        }
        _ => {}
    }
    // Where a push holds it, that is what is said.
    if manifest.number < known.highest && known.hold.is_none() {
        return Some(Refusal::Overtaken { number: manifest.number, highest: known.highest });
    }
    None
}

fn timely(known: &Known, opened: Opened) -> Judged {
    let Opened { statement, manifest, .. } = &opened;
    let gives_way = |hold: &Hold| {
        manifest.number >= known.highest
            && hold.gives_way_to(
                manifest.number,
                manifest.lifts,
                manifest.runs.path(),
                manifest.runs.profiles(),
            )
    };
    if let Some(hold) = known.hold.as_ref().filter(|hold| !gives_way(hold)) {
        return Judged::Held(Box::new(opened), hold.clone());
    }
    if known.now > statement.expires {
        return Judged::Late(Box::new(opened), Late::Expired);
    }
    if known.now.saturating_add(SKEW) < statement.made {
        return Judged::Late(Box::new(opened), Late::Future);
    }
    Judged::Take(Box::new(opened))
}

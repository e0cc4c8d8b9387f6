//! The log of an attempt, watched from outside: which effect is at work, and how long effects take.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosco_activation::Effect;

use crate::random::Random;

/// How long an effect is taken to last that nobody has seen yet.
const UNSEEN: Duration = Duration::from_millis(20);
/// Of how many times the middle one is taken.
const KEPT: usize = 25;

/// What a line of the log says of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Begins(Effect),
    Done(Effect),
    /// It failed, or was refused.
    Failed(Effect),
}

/// What the log says, in order. A probe that complains has no line for its end: its complaints are that.
pub(crate) fn marks(log: &str) -> Vec<Mark> {
    let mut marks = Vec::new();
    // The last line may be half written.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    for line in whole.lines().filter_map(|line| line.strip_prefix("bosco: ")) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let effect = Effect::ALL.into_iter().find(|effect| effect.word() == word);
        match (effect, rest) {
            (Some(effect), "begins") => marks.push(Mark::Begins(effect)),
            (Some(effect), "done") => marks.push(Mark::Done(effect)),
            (Some(effect), rest) if rest.starts_with("failed") || rest.starts_with("refused") => {
                marks.push(Mark::Failed(effect));
            }
            _ if marks.last() == Some(&Mark::Begins(Effect::Probe)) && is_complaint(line) => {
                marks.push(Mark::Failed(Effect::Probe));
            }
            _ => {}
        }
    }
    marks
}

fn is_complaint(line: &str) -> bool {
    line.ends_with("has failed") || line.starts_with("health check")
}

/// The effect that has begun and not ended.
pub(crate) fn at_work(log: &str) -> Option<Effect> {
    match marks(log).last() {
        Some(Mark::Begins(effect)) => Some(*effect),
        _ => None,
    }
}

/// How long effects take here and now.
#[derive(Debug, Default)]
pub(crate) struct Durations(Mutex<BTreeMap<Effect, Vec<Duration>>>);

impl Durations {
    fn learn(&self, effect: Effect, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(effect).or_default();
        seen.push(took);
        let excess = seen.len().saturating_sub(KEPT);
        seen.drain(..excess);
    }

    /// The middle one of the last few.
    pub(crate) fn of(&self, effect: Effect) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get(&effect) else { return UNSEEN };
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(UNSEEN)
    }

    /// A moment within an effect, from its beginning: now and then the very first one.
    pub(crate) fn moment(&self, effect: Effect, random: &mut Random) -> Duration {
        if random.one_in(5) {
            random.part_of(Duration::from_millis(1))
        } else {
            random.part_of(self.of(effect))
        }
    }
}

/// A log that grows.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    path: PathBuf,
    durations: &'a Durations,
    length: u64,
    seen: usize,
    begun: Option<(Effect, Instant)>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(path: PathBuf, durations: &'a Durations) -> Self {
        Self { path, durations, length: 0, seen: 0, begun: None }
    }

    /// The attempt's name, by which its log is called.
    pub(crate) fn id(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// All of it, as the host itself would read it now.
    pub(crate) fn text(&self) -> String {
        fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// What has come since the last look.
    pub(crate) fn look(&mut self) -> Vec<Mark> {
        let length = fs::metadata(&self.path).map(|metadata| metadata.len()).unwrap_or_default();
        if length == self.length {
            return Vec::new();
        }
        self.length = length;
        let now = Instant::now();
        let mut all = marks(&self.text());
        if all.len() < self.seen {
            // A power cut has taken its end away.
            (self.seen, self.begun) = (all.len(), None);
        }
        let new = all.split_off(self.seen);
        self.seen += new.len();
        for mark in &new {
            match (mark, self.begun) {
                (Mark::Begins(effect), _) => self.begun = Some((*effect, now)),
                (Mark::Done(effect), Some((begun, at))) if begun == *effect => {
                    self.durations.learn(begun, now - at);
                    self.begun = None;
                }
                _ => self.begun = None,
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_which_effect_is_at_work() {
        let log =
            "bosco: check begins\nbosco: check done\nbosco: switch begins\nstarting the following units: x\n";
        assert_eq!(at_work(log), Some(Effect::Switch));
        assert_eq!(
            at_work(&format!("{log}bosco: switch fai")),
            Some(Effect::Switch),
            "half a line says nothing"
        );
        assert_eq!(at_work(&format!("{log}bosco: switch failed: x\n")), None);
        let probe = "bosco: probe begins\nbosco: a fresh connection has come\n";
        assert_eq!(at_work(probe), Some(Effect::Probe));
        assert_eq!(at_work(&format!("{probe}bosco: picky.service has failed\n")), None);
        assert_eq!(at_work("bosco: set-profile begins\n"), Some(Effect::SetProfile));
    }

    #[test]
    fn a_duration_is_the_middle_of_those_that_were_seen() {
        let durations = Durations::default();
        for millis in [1, 500, 7] {
            durations.learn(Effect::Arm, Duration::from_millis(millis));
        }
        assert_eq!(durations.of(Effect::Arm), Duration::from_millis(7));
        let mut random = Random::new(1);
        assert!((0..100).all(|_| durations.moment(Effect::Arm, &mut random) < Duration::from_millis(7)));
    }
}

//! What has been struck so far, what is still to be struck, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bosco_activation::Effect;
use serde::Serialize;

use crate::cell::{Cell, Fault, cells, takes_the_module, way};
use crate::random::Random;

/// How often a cell is tried for each time that it is to be hit: short effects are missed now and then.
const TRIES: usize = 4;

/// What came of a run.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// What makes the same cases again, if not the same moments.
    pub seed: u64,
    /// All cases that came to an end.
    pub cases: usize,
    /// Those of them in which both attempts were `bosco apply`, from evaluation to report.
    pub by_bosco: usize,
    /// Power cuts that dropped what was not synced.
    pub cuts: usize,
    /// Hosts that did not answer in time.
    pub lost: usize,
    /// Hosts at neither the old nor the new system, or with a damaged store or journal.
    pub unknown: usize,
    /// Hosts at some of both, with something left over, or that the next attempt did not bring on.
    pub half: usize,
    /// Strikes that met no effect at work.
    pub between: usize,
    /// Cases in which the attempt was over before anything struck.
    pub missed: usize,
    /// How often each effect was hit by each fault.
    pub by_effect: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    /// How attempts ended that were struck, by fault.
    pub endings: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// How long the effects took, in milliseconds: the middle one of the last few.
    pub millis: BTreeMap<&'static str, f64>,
    /// Where what went wrong is kept, with the reasons.
    pub failures: Vec<String>,
}

impl Tally {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.failures.is_empty() && self.lost + self.unknown + self.half == 0
    }

    /// How often an effect was hit by a fault.
    #[must_use]
    pub fn hits(&self, effect: Effect, fault: Fault) -> usize {
        let row = self.by_effect.get(effect.word());
        row.and_then(|row| row.get(fault.word())).copied().unwrap_or_default()
    }

    pub(crate) fn hit(&mut self, effect: Effect, fault: Fault) {
        *self.by_effect.entry(effect.word()).or_default().entry(fault.word()).or_default() += 1;
    }

    /// One line, for who waits.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} cases, {} power cuts: {} lost, {} unknown, {} half; {} strikes between two effects",
            self.cases, self.cuts, self.lost, self.unknown, self.half, self.between
        )
    }

    /// What came of it, in Markdown.
    #[must_use]
    pub fn report(&self) -> String {
        let Self { seed, cases, by_bosco, cuts, lost, unknown, half, between, missed, .. } = self;
        let mut report = format!(
            "Seed {seed}: {cases} cases, {by_bosco} of them by `bosco apply` from evaluation to report. {cuts} power cuts \
             dropped what was not synced.\n\n\
             | lost | unknown | half | strikes between two effects | over before anything struck |\n\
             |---:|---:|---:|---:|---:|\n\
             | {lost} | {unknown} | {half} | {between} | {missed} |\n\n"
        );
        report.push_str("How often each effect was hit while it was at work, and how long it takes:\n\n");
        report.push_str(&self.table());
        report.push_str("\nHow the struck attempts ended:\n\n| fault | endings |\n|---|---|\n");
        for (fault, endings) in &self.endings {
            let endings: Vec<String> =
                endings.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
            let _ = writeln!(report, "| {fault} | {} |", endings.join(", "));
        }
        report
    }

    /// A table in Markdown: how often each effect was hit by each fault.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::from("| effect |");
        for fault in Fault::ALL {
            let _ = write!(table, " {} |", fault.word());
        }
        table.push_str(" takes | made to fail by |\n|---|");
        table.push_str(&"---:|".repeat(Fault::ALL.len() + 1));
        table.push_str("---|\n");
        for effect in Effect::ALL {
            let _ = write!(table, "| {} |", effect.word());
            for fault in Fault::ALL {
                let _ = write!(table, " {} |", self.hits(effect, fault));
            }
            let millis = self.millis.get(effect.word()).map_or_else(String::new, |ms| format!("{ms:.0} ms"));
            let _ = writeln!(table, " {millis} | {} |", way(effect));
        }
        table
    }
}

/// What is still to be done of the matrix.
pub(crate) struct Goals {
    left: BTreeMap<Cell, Goal>,
    random: Random,
}

struct Goal {
    hits: usize,
    wanted: usize,
    tries: usize,
}

impl Goals {
    /// Each effect is to be hit so often by power cuts, and so often by each other fault.
    pub(crate) fn new(cuts: usize, others: usize, seed: u64) -> Self {
        let wanted = |cell: &Cell| if cell.fault == Fault::PowerCut { cuts } else { others };
        let goal = |cell: Cell| (cell, Goal { hits: 0, wanted: wanted(&cell), tries: 0 });
        Self { left: cells().into_iter().map(goal).collect(), random: Random::new(seed) }
    }

    /// What is to be tried next: what lags behind most. `None`: for such a host there is nothing left to do.
    pub(crate) fn next(&mut self, has_module: bool) -> Option<Cell> {
        let lag = |goal: &Goal| 1000 * goal.hits.max(goal.tries / TRIES) / goal.wanted.max(1);
        let open = |(cell, goal): &(&Cell, &Goal)| {
            goal.hits < goal.wanted
                && goal.tries < goal.wanted * TRIES
                && (has_module || !takes_the_module(cell.effect))
        };
        let all: Vec<_> = self.left.iter().filter(open).collect();
        // What only some hosts can do is theirs to do first.
        let only: Vec<_> = all.iter().filter(|(cell, _)| takes_the_module(cell.effect)).copied().collect();
        let all = if only.is_empty() || !self.random.one_in(2) { all } else { only };
        let least = all.iter().map(|(_, goal)| lag(goal)).min()?;
        let behind: Vec<Cell> =
            all.iter().filter(|(_, goal)| lag(goal) == least).map(|(cell, _)| **cell).collect();
        let cell = *behind.get(self.random.below(behind.len()))?;
        if let Some(goal) = self.left.get_mut(&cell) {
            goal.tries += 1;
        }
        Some(cell)
    }

    pub(crate) fn hit(&mut self, effect: Effect, fault: Fault) {
        if let Some(goal) = self.left.get_mut(&Cell { effect, fault }) {
            goal.hits += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_is_tried_until_it_was_hit_often_enough_and_not_for_ever() {
        let mut goals = Goals::new(3, 1, 7);
        let mut tally = Tally::default();
        while let Some(cell) = goals.next(true) {
            // One that is never hit.
            if cell.effect != Effect::Sync {
                goals.hit(cell.effect, cell.fault);
                tally.hit(cell.effect, cell.fault);
            }
        }
        for cell in cells().into_iter().filter(|cell| cell.effect != Effect::Sync) {
            let wanted = if cell.fault == Fault::PowerCut { 3 } else { 1 };
            assert_eq!(tally.hits(cell.effect, cell.fault), wanted, "{cell:?}");
        }
        assert_eq!(tally.hits(Effect::Sync, Fault::PowerCut), 0);
        assert!(tally.table().contains("| switch | 1 | 1 | 1 | 3 | 1 |"), "{}", tally.table());
    }

    #[test]
    fn a_host_without_the_module_boots_no_candidates() {
        let mut goals = Goals::new(2, 2, 1);
        while let Some(cell) = goals.next(false) {
            assert!(!takes_the_module(cell.effect));
        }
    }
}

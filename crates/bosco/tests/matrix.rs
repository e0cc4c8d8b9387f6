//! Every effect of an activation hit by every fault once, on real machines. `cargo xtask faults` does it many times.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // A test fails by panicking, and says how far it is.

use std::path::Path;

use bosco_activation::Effect;
use faults::{Fault, Spec, cells, run};

/// Always the same choices, so that what fails can be looked at again.
const SEED: u64 = 1;

#[test]
fn whatever_strikes_an_activation_the_host_is_at_the_old_or_the_new_system_and_can_be_deployed_to() {
    let keep = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let spec = Spec::sample(env!("CARGO_BIN_EXE_bosco").into(), keep, SEED);
    let tally = run(&spec, &|tally, text| eprintln!("{}; {text}", tally.line())).unwrap();
    assert!(tally.is_well(), "{}\n{}", tally.line(), tally.failures.join("\n"));
    // Which of the short effects were met, is luck; that nearly all were, is not.
    let all = cells();
    let hit = all.iter().filter(|cell| tally.hits(cell.effect, cell.fault) > 0).count();
    assert!(4 * hit > 3 * all.len(), "only {hit} of {} were hit\n{}", all.len(), tally.table());
    for fault in Fault::ALL {
        assert!(tally.hits(Effect::Switch, fault) > 0, "{fault:?} never met a switch\n{}", tally.table());
    }
}

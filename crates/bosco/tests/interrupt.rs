//! An operator's Ctrl-C, at any moment: nothing is left half-way, and bosco says where each host is.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::case::Case;
use common::{command, stands};
use serde_json::Value;
use testbed::{Lab, LabSpec};

/// Starts an apply, and sends an interrupt to it and to all that it started when `stage` is entered, as a terminal does.
/// Gives its exit code and what it said after that.
fn interrupted_at(case: &Case<'_>, stage: &str) -> (i32, Vec<Value>) {
    use std::os::unix::process::CommandExt;
    let mut apply = command(case.operator, &case.fleet, &["apply", "--json"]);
    let mut child = apply.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut after = Vec::new();
    let mut sent = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if sent {
            after.push(event);
        } else if event["event"] == "fleet" && stage == "fleet" || event["stage"] == stage {
            let group = format!("-{}", child.id());
            let kill = std::process::Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
            assert!(kill.success());
            sent = true;
        }
    }
    assert!(sent, "the apply never came to `{stage}`");
    (child.wait().unwrap().code().unwrap_or(-1), after)
}

/// Whether the host has begun with another attempt than this one, which it may be about to.
fn has_begun(case: &Case<'_>, last_attempt: &str) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        if case.attempt() != last_attempt {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn an_interrupt_at_any_stage_leaves_nothing_half_way() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let case = Case::new(&lab, "host1");
    for (round, stage) in
        ["fleet", "evaluate", "connect", "build", "copy", "activate"].into_iter().enumerate()
    {
        case.own_unconfirmed(&format!("environment.etc.greeting.text = \"round {round}\";"));
        let before = stands(case.host);
        let last_attempt = case.attempt();
        let (code, after) = interrupted_at(&case, stage);
        assert_eq!(code, 130, "interrupted at {stage}: {after:?}");
        let last = after.last().unwrap_or_else(|| panic!("interrupted at {stage}, it said nothing"));
        if stage == "fleet" {
            assert!(last.to_string().contains("interrupted"), "{last}");
        } else {
            assert_eq!(last["hosts"][0]["outcome"], "interrupted", "at {stage}: {last}");
        }
        if stage == "activate" && has_begun(&case, &last_attempt) {
            // It had begun, and nobody is there to say that the host can be reached: it goes back, and says why.
            case.ends(&["inconclusive"]);
            case.stands_as(&before);
        } else {
            assert_eq!(stands(case.host), before, "interrupted at {stage}");
        }
        case.with_time();
        case.apply().exits(0);
        assert_eq!(case.state(), "up-to-date", "after an interrupt at {stage}");
    }
}

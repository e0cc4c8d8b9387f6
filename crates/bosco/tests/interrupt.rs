//! An operator's Ctrl-C, at any moment: nothing is left half-way, and bosco says where each host is.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{bosco, command, stands, state, until_activating, until_idle};
use serde_json::Value;
use testbed::fleet::{Fleet, sample};
use testbed::{Lab, LabSpec};

/// Starts an apply, and sends an interrupt to it and to all that it started when `stage` is entered, as a terminal does.
/// Gives its exit code and what it said after that.
fn interrupted_at(lab: &Lab, fleet: &Fleet<'_>, stage: &str) -> (i32, Vec<Value>) {
    use std::os::unix::process::CommandExt;
    let mut apply = command(lab.operator(), fleet, &["apply", "--on", "host1", "--json"]);
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

#[test]
fn an_interrupt_at_any_stage_leaves_nothing_half_way() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "plain").unwrap();
    for (round, stage) in
        ["fleet", "evaluate", "connect", "build", "copy", "activate"].into_iter().enumerate()
    {
        fleet
            .write(
                "host1.nix",
                &format!("{{ networking.hostName = \"host1\"; environment.etc.greeting.text = \"round {round}\"; }}"),
            )
            .unwrap();
        let before = stands(host);
        let (code, after) = interrupted_at(&lab, &fleet, stage);
        assert_eq!(code, 130, "interrupted at {stage}: {after:?}");
        let last = after.last().unwrap_or_else(|| panic!("interrupted at {stage}, it said nothing"));
        if stage == "fleet" {
            assert!(last.to_string().contains("interrupted"), "{last}");
        } else {
            assert_eq!(last["hosts"][0]["outcome"], "interrupted", "at {stage}: {last}");
        }
        if stage == "activate" {
            // It had begun, or was about to: what was begun goes on to its end.
            until_idle(host);
            let state = state(operator, &fleet, "host1");
            assert!(state == "up-to-date" || stands(host) == before, "{state}: {}", stands(host));
        } else {
            assert_eq!(stands(host), before, "interrupted at {stage}");
        }
        bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(0);
        assert_eq!(state(operator, &fleet, "host1"), "up-to-date", "after an interrupt at {stage}");
    }
}

#[test]
fn a_bosco_that_is_killed_in_mid_activation_does_not_stop_it() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "plain").unwrap();
    host.ssh_ok("mkfifo /run/go").unwrap();
    fleet
        .write(
            "host1.nix",
            "{ networking.hostName = \"host1\"; system.activationScripts.wait = \"read word < /run/go || true\"; }",
        )
        .unwrap();
    let mut apply = command(operator, &fleet, &["apply", "--on", "host1"]);
    let mut child = apply.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_activating(host);
    child.kill().unwrap();
    child.wait().unwrap();
    host.ssh_ok("echo go > /run/go").unwrap();
    until_idle(host);
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

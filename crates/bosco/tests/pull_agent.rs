//! The agent is killed in the middle of its work: the activation goes on, and what came of it is reported once.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::pull::{HUB, Pull};
use testbed::{Lab, LabSpec};

/// A switch that waits until it may go on.
const WAITS_IN_THE_SWITCH: &str =
    "system.activationScripts.wait = \"until [ -e /root/go ]; do sleep 0.1; done\";";
/// A proof that does.
const WAITS_IN_THE_WINDOW: &str = "deployment.healthChecks.wait = {
    command = \"until [ -e /root/go ]; do sleep 0.1; done\"; timeout = 50;
};";
/// What takes a while to fetch.
const LARGE: &str =
    "environment.etc.large.source = pkgs.runCommand \"large\" { } \"head -c 400000 /dev/urandom > $out\";";

/// Kills the agent, and all that it has started itself.
fn kill(pull: &Pull<'_>, host: &str) {
    let struck = pull.lab.host(host).unwrap().kill_units("bosco-agent", None).unwrap();
    assert_eq!(struck, 1, "{host} has no agent to kill");
}

fn in_the_switch(pull: &Pull<'_>, host: &str, number: u64) {
    pull.until_attempt(host, number, "switching", |attempt| attempt["state"] == "switching");
    kill(pull, host);
    pull.until_says(host, "an activation is under way; it is followed");
    pull.go(host);
}

fn while_it_fetches(pull: &Pull<'_>, host: &str, number: u64) {
    pull.until_says(host, &format!("fetches release {number}"));
    kill(pull, host);
    let attempt = pull.journal(host)["attempt"].take();
    assert_ne!(attempt["request"]["number"], number, "it has been fetched before: {attempt}");
    pull.lab.host(host).unwrap().heal().unwrap();
}

fn before_the_proof(pull: &Pull<'_>, host: &str, number: u64) {
    let (machine, hub) = (pull.lab.host(host).unwrap(), pull.hub());
    pull.until_attempt(host, number, "switching", |attempt| attempt["state"] == "switching");
    machine.partition_from(hub).unwrap();
    pull.go(host);
    pull.until_attempt(host, number, "proving", |attempt| attempt["state"] == "proving");
    kill(pull, host);
    machine.heal().unwrap();
}

/// The connection has come, the health check is not through: whoever waits for the end is gone when it comes.
fn before_the_end(pull: &Pull<'_>, host: &str, number: u64) {
    let machine = pull.lab.host(host).unwrap();
    let proven = |attempt: &serde_json::Value| attempt["state"] == "proving" && attempt["connected"] == true;
    pull.until_attempt(host, number, "proven", proven);
    machine.at_keyboard("systemctl kill -s KILL bosco-agent; systemctl stop bosco-agent").unwrap();
    pull.go(host);
    pull.until_attempt(host, number, "ended", |attempt| attempt["state"] == "ended");
    machine.at_keyboard("systemctl start bosco-agent").unwrap();
}

/// The hub is away when the report is due, and the agent is killed meanwhile.
fn with_a_report_that_waits(pull: &Pull<'_>, host: &str, number: u64) {
    let (machine, hub) = (pull.lab.host(host).unwrap(), pull.hub());
    let proven = |attempt: &serde_json::Value| attempt["state"] == "proving" && attempt["connected"] == true;
    pull.until_attempt(host, number, "proven", proven);
    machine.partition_from(hub).unwrap();
    pull.go(host);
    let waits = "for try in $(seq 300); do ls /nix/var/bosco/reports/*.json && exit; sleep 0.1; done; exit 1";
    machine.at_keyboard(waits).unwrap();
    kill(pull, host);
    machine.heal().unwrap();
}

#[test]
fn an_agent_that_is_killed_in_any_phase_comes_back_and_each_attempt_is_reported_once() {
    type Play = fn(&Pull<'_>, &str, u64);
    let cases: [(&str, &str, Play); 5] = [
        ("fetching", LARGE, while_it_fetches),
        ("switching", WAITS_IN_THE_SWITCH, in_the_switch),
        ("proving", WAITS_IN_THE_SWITCH, before_the_proof),
        ("ending", WAITS_IN_THE_WINDOW, before_the_end),
        ("reporting", WAITS_IN_THE_WINDOW, with_a_report_that_waits),
    ];
    let lab = Lab::up(&LabSpec::named([HUB].into_iter().chain(cases.map(|(host, ..)| host)))).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.enroll_agents();
    for (host, options, _) in cases {
        pull.with_agent(host, options);
    }
    lab.host("fetching").unwrap().bandwidth(400).unwrap();
    let number = pull.release();
    std::thread::scope(|scope| {
        for (host, _, play) in &cases {
            let pull = &pull;
            scope.spawn(move || play(pull, host, number));
        }
    });
    for (host, ..) in cases {
        pull.until_at(host, number);
        pull.until(host, "reported", |_| !pull.reports(host).is_empty());
        assert_eq!(pull.reports(host), [(number, "committed".to_owned())], "{host}\n{}", pull.log(host));
        assert_eq!(lab.host(host).unwrap().at_keyboard("ls /nix/var/bosco/reports").unwrap(), "", "{host}");
    }
}

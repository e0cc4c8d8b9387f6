//! Commands on hosts, and logging in to one.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, command};
use testbed::fleet::sample;
use testbed::{Lab, LabSpec};

#[test]
fn a_command_runs_on_each_host_and_what_they_say_alike_is_shown_once() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let exec = |args: &[&str]| bosco(lab.operator(), &fleet, &[&["exec"], args].concat());

    let said = exec(&["*", "--", "id -u; echo same"]).exits(0);
    assert_eq!(said.out, "host1, host2:\n  0\n  same\n");
    let said = exec(&["*", "--", "hostname; hostname >&2"]).exits(0);
    assert_eq!(said.out, "host1:\n  host1\n  host1\nhost2:\n  host2\n  host2\n");
    // Several words are a program and its arguments, each as it was given.
    let said = exec(&["host1", "--", "printf", "%s|", "a  b", "$(id)", "it's"]).exits(0);
    assert_eq!(said.out, "host1:\n  a  b|$(id)|it's|\n");
    // It can't read what belongs to bosco, and need not end its last line.
    exec(&["host1", "--", "cat; printf end"]).exits(0).says("  end\n");
    // What it leaves behind, with its output put elsewhere, holds nobody up.
    let started = std::time::Instant::now();
    exec(&["host1", "--", "sleep 60 >/dev/null 2>&1 & echo left"]).exits(0).says("  left\n");
    assert!(started.elapsed().as_secs() < 5, "it was waited for: {:?}", started.elapsed());
    // It may say much.
    exec(&["host1", "--", "seq 70000; exit 3"]).exits(4).says("host1 (exit 3):").says("  70000\n");
}

#[test]
fn a_command_that_fails_and_a_host_that_is_away_are_in_the_exit_code() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let operator = lab.operator();
    let exec = |args: &[&str]| bosco(operator, &fleet, &[&["exec"], args].concat());
    exec(&["*", "--", "[ $(hostname) = host1 ] || { echo no; exit 7; }"])
        .exits(4)
        .says("host2 (exit 7):\n  no\n");
    exec(&["no-such", "--", "true"]).exits(2).says("no host is called `no-such`");
    bosco(operator, &sample(operator, "hive").unwrap(), &["exec", "laptop", "--", "true"])
        .exits(5)
        .says("itself only");
    exec(&["host1"]).exits(2).says("`bosco exec host1 -- COMMAND`");
    exec(&["host1", "ls", "-l"]).exits(2).says("the command stands behind `--`");

    lab.host("host2").unwrap().cut().unwrap();
    exec(&["*", "--", "echo here"]).exits(5).says("host1:\n  here\n").says("host2: skipped: ");
    let answer = exec(&["--json", "*", "--", "echo here"]).exits(5);
    let answer: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(answer[0], serde_json::json!({ "host": "host1", "exitCode": 0, "output": "here\n" }));
    assert!(answer[1]["error"].is_string(), "{answer}");
}

#[test]
fn ssh_goes_where_the_fleet_says_and_ends_as_ssh_ends() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "hive").unwrap();
    let operator = lab.operator();
    let address = lab.host("host1").unwrap().address().to_string();
    let flake = std::fs::read_to_string(fleet.path().join("flake.nix")).unwrap();
    let flake =
        flake.replace("deployment.tags = [ \"web\" ];", &format!("deployment.targetHost = \"{address}\";"));
    fleet.write("flake.nix", &flake).unwrap();
    let ssh = |args: &[&str]| bosco(operator, &fleet, &[&["ssh"], args].concat());

    ssh(&["host2", "--", "true"]).exits(255);
    let said = ssh(&["host1", "--", "hostname; exit 9"]);
    assert_eq!((said.code, said.out.trim()), (9, "host1"), "{}", said.err);
    ssh(&["laptop"]).exits(2).says("deployed on itself only");
    ssh(&["host3"]).exits(2).says("did you mean `host1` or `host2`?");
}

#[test]
fn a_selector_that_is_nearly_right_is_told_what_was_meant() {
    let operator = testbed::Operator::alone().unwrap();
    let fleet = sample(&operator, "hive").unwrap();
    let hosts = |args: &[&str]| bosco(&operator, &fleet, &[&["hosts"], args].concat());
    hosts(&["hsot1"]).exits(2).says("no host is called `hsot1`").says("did you mean `host1` or `host2`?");
    hosts(&["@wbe"]).exits(2).says("no host matches `@wbe`").says("did you mean `@web`?");
    hosts(&["@printer"]).exits(2).says("there are @canary, @web");
    hosts(&["boot"]).exits(2).says("`--goal boot` says how far to go");
    hosts(&["host1"]).exits(0).does_not_say("host2");
    hosts(&["host1", "--on", "host2"]).exits(2).says("cannot be used with");
    assert!(command(&operator, &fleet, &["hosts", "--on", "@canary"]).output().unwrap().status.success());
}

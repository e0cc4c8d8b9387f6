//! What is still on a host is listed as it is.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, json};
use testbed::fleet::sample;
use testbed::{Guest, Lab, LabSpec};

#[test]
fn a_hosts_generations_are_listed_with_what_runs_and_what_boots() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let operator = lab.operator();
    let change = |text: &str, goal: &str| {
        let module =
            format!("{{ networking.hostName = \"host1\"; environment.etc.greeting.text = \"{text}\"; }}");
        fleet.write("host1.nix", &module).unwrap();
        bosco(operator, &fleet, &["apply", "host1", "--goal", goal]).exits(0);
    };
    change("one", "switch");
    change("two", "boot");
    let answer = json(operator, &fleet, &["generations", "host1"]);
    let listed = answer[0]["generations"].as_array().unwrap();
    let is: Vec<_> = listed.iter().map(|one| one["is"].to_string()).collect();
    assert_eq!(is, ["[\"booted\"]", "[\"runs\"]", "[\"default\"]"], "{answer}");
    assert!(listed[2]["made"].as_u64().unwrap() >= listed[1]["made"].as_u64().unwrap(), "{answer}");
    bosco(operator, &fleet, &["generations", "host1"]).exits(0).says("26.05").says("default");
}

#[test]
fn a_machine_without_generations_is_told_for_what_it_is() {
    let lab = Lab::up(&LabSpec::new(1).guest(Guest::Debian)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    bosco(lab.operator(), &fleet, &["generations", "host1"]).exits(4).says("NixOS");
}

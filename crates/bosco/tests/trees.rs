//! A tree of directories, one for each host, is a fleet like any other; with real Nix, and machines only where it is pushed.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use common::{Said, bosco, command, json, state};
use testbed::fleet::{Fleet, sample};
use testbed::{Lab, LabSpec, Operator};

/// The toplevels of all hosts, by building them.
fn toplevels(operator: &Operator, fleet: &Fleet<'_>) -> BTreeMap<String, String> {
    let said = bosco(operator, fleet, &["build", "--json"]).exits(0);
    let events = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ended = events.filter(|event| event["event"] == "ended");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    ended.map(|event| (text(&event["host"]), text(&event["outcome"]["toplevel"]))).collect()
}

#[test]
fn a_tree_is_listed_evaluated_and_built_with_what_its_links_lead_to() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "tree").unwrap();
    let hosts = json(&operator, &fleet, &["hosts"]);
    let names: Vec<&str> =
        hosts.as_array().unwrap().iter().filter_map(|host| host["name"].as_str()).collect();
    assert_eq!(names, ["router", "t470"], "{hosts}");
    let asked = "{ nodes, ... }: builtins.mapAttrs (_: node: node.config.networking.hostName) nodes";
    let named = json(&operator, &fleet, &["eval", asked]);
    assert_eq!(named, serde_json::json!({ "router": "router", "t470": "t470" }));

    let before = toplevels(&operator, &fleet);
    assert_eq!(before.len(), 2);
    fleet.write("utils/motd", "another for all\n").unwrap();
    let after = toplevels(&operator, &fleet);
    assert!(before.iter().all(|(host, toplevel)| after[host] != *toplevel), "{before:?} {after:?}");
    // From inside of a host's directory, which is a flake, it is the same fleet.
    let inside = fleet.path().join("hosts/t470");
    let output = command(&operator, &fleet, &["hosts"]).current_dir(inside).output().unwrap();
    Said::of(&output).exits(0).says("router");
}

#[test]
fn a_directory_that_can_not_be_handed_over_is_told_and_stands_in_no_others_way() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "tree").unwrap();
    let link = fleet.path().join("hosts/router/secret");
    symlink("/etc/shadow", &link).unwrap();
    bosco(&operator, &fleet, &["build"])
        .exits(3)
        .says("hosts/router can't be handed over: hosts/router/secret leads out of the tree");
    bosco(&operator, &fleet, &["build", "--on", "t470"]).exits(0);
    std::fs::remove_file(&link).unwrap();
    // A mistake is told by the name that it has in the tree.
    fleet.write("hosts/router/configuration.nix", "{ networking.hostNam = 3; }").unwrap();
    bosco(&operator, &fleet, &["build", "--on", "router"]).exits(3).says("hosts/router/configuration.nix");
}

#[test]
fn a_tree_is_pushed_as_any_other_fleet() {
    let lab = Lab::up(&LabSpec::named(["router", "t470"])).unwrap();
    let fleet = sample(lab.operator(), "tree").unwrap();
    bosco(lab.operator(), &fleet, &["apply"]).exits(0).says("2 committed");
    for host in ["router", "t470"] {
        assert_eq!(state(lab.operator(), &fleet, host), "up-to-date");
        assert_eq!(lab.host(host).unwrap().ssh_ok("cat /etc/motd-of-all").unwrap(), "one for all\n");
    }
}

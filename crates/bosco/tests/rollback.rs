//! Hosts go back to what they ran before, and stay there after a boot.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use common::{bosco, json, stands, state};
use testbed::fleet::sample;
use testbed::{Lab, LabSpec, Unsynced};

#[test]
fn a_host_goes_back_step_by_step_or_to_a_generation_and_boots_what_it_went_back_to() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let run = |args: &[&str]| bosco(operator, &fleet, args);
    let greeting = || host.ssh_ok("cat /etc/greeting 2>/dev/null || echo none").unwrap().trim().to_owned();
    let fresh = stands(host);
    let mut at = Vec::new();
    for text in ["one", "two", "three"] {
        let module =
            format!("{{ networking.hostName = \"host1\"; environment.etc.greeting.text = \"{text}\"; }}");
        fleet.write("host1.nix", &module).unwrap();
        run(&["apply", "host1"]).exits(0).says("1 committed: host1");
        at.push(stands(host));
    }
    // What it is asked for need not evaluate any more, beyond how to reach it.
    fleet
        .write(
            "common.nix",
            "{ lib, ... }: { services.openssh.enable = true; system.stateVersion = \"26.05\"; \
         environment.etc.greeting.text = lib.mkDefault (throw \"broken\"); }",
        )
        .unwrap();
    fleet.write("host1.nix", "{ networking.hostName = \"host1\"; }").unwrap();
    run(&["build", "host1"]).exits(3);

    run(&["rollback", "host1"]).exits(0).says("1 committed: host1");
    assert_eq!((greeting().as_str(), stands(host)), ("two", at[1].clone()));
    run(&["rollback", "host1"]).exits(0);
    assert_eq!((greeting().as_str(), stands(host)), ("one", at[0].clone()), "twice goes back further");
    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(Duration::from_secs(60)).unwrap();
    assert_eq!(stands(host), at[0], "it boots what it went back to");

    let answer = json(operator, &fleet, &["generations", "host1"]);
    let listed = answer[0]["generations"].as_array().unwrap().clone();
    let newest = listed.last().unwrap()["number"].to_string();
    assert_eq!(listed.len(), 4, "going back makes no generation: {answer}");
    run(&["rollback", "host1", "--to", &newest]).exits(0);
    assert_eq!((greeting().as_str(), stands(host)), ("three", at[2].clone()));
    run(&["rollback", "host1", "--to", &newest]).exits(0).says("1 up to date: host1");
    run(&["rollback", "host1", "--to", "99"])
        .exits(4)
        .says("it has no generation 99")
        .says("bosco generations");
    run(&["generations", "host1"]).exits(0).says("default, runs");

    // A host that was never deployed to has nothing to go back to.
    run(&["rollback", "host2"]).exits(4).says("no generation before the present one");
    run(&["rollback"]).exits(2).says("which hosts?");
    run(&["rollback", "host1", "--to", "1"]).exits(0);
    assert_eq!(
        stands(host).lines().next(),
        fresh.lines().next(),
        "the first one is what it was installed with"
    );
    fleet
        .write("common.nix", "{ services.openssh.enable = true; system.stateVersion = \"26.05\"; }")
        .unwrap();
    assert_eq!(state(operator, &fleet, "host1"), "pending");
}

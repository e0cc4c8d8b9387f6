//! What `bosco init` writes is a fleet, and nothing that is there is touched.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, json};
use testbed::Operator;
use testbed::fleet::{create, sample};

#[test]
fn a_new_fleet_evaluates_and_builds_and_is_not_written_twice() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "home").unwrap();
    bosco(&operator, &fleet, &["init"]).exits(0).says("flake.nix").says("bosco.toml");
    let read = |file: &str| std::fs::read_to_string(fleet.path().join(file)).unwrap();
    assert!(read("bosco.toml").contains("fleet = \"home\""), "{}", read("bosco.toml"));
    fleet.commit().unwrap();
    assert_eq!(json(&operator, &fleet, &["hosts"])[0]["name"], "server");
    bosco(&operator, &fleet, &["build"]).exits(0).says("server: built");

    bosco(&operator, &fleet, &["init", "--flake", "."]).exits(2).says("takes no `--flake`");
    fleet.write("bosco.toml", "fleet = \"mine\"\n").unwrap();
    let before = read("flake.nix");
    bosco(&operator, &fleet, &["init"]).exits(0).says("has all that it needs");
    assert_eq!((read("flake.nix"), read("bosco.toml")), (before, "fleet = \"mine\"\n".into()));
}

#[test]
fn a_fleet_that_is_there_gets_only_what_it_lacks() {
    let operator = Operator::alone().unwrap();
    for form in ["plain", "hive"] {
        let fleet = sample(&operator, form).unwrap();
        let before = std::fs::read_dir(fleet.path()).unwrap().count();
        let written = json(&operator, &fleet, &["init"]);
        assert_eq!(written["written"].as_array().unwrap().len(), 1, "{written}");
        assert_eq!(std::fs::read_dir(fleet.path()).unwrap().count(), before + 1);
        bosco(&operator, &fleet, &["hosts"]).exits(0);
    }
}

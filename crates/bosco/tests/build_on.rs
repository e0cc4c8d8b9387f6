//! Where a host builds for itself, or another one builds for it, nothing is built here.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::forms::HOSTS;
use common::{Said, bosco, command, toplevel_of};
use testbed::{Lab, LabSpec, fleet};

/// A file that this machine has, and what is built from it.
fn own(text: &str, more: &str) -> String {
    let built =
        format!("pkgs.runCommand \"built\" {{ }} \"cp ${{pkgs.writeText \"input\" \"{text}\"}} $out\"");
    format!("{{ pkgs, lib, ... }}: {{ environment.etc.built.source = {built}; {more} }}")
}

#[test]
fn a_host_builds_what_it_is_to_run_and_nothing_of_it_is_built_or_fetched_here() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let (operator, web) = (lab.operator(), lab.host("web").unwrap());
    let fleet = fleet::create(operator, "fleet").unwrap();
    fleet.write("hosts.nix", HOSTS).unwrap();
    fleet.write("flake.nix", "{ inputs.nixpkgs.url = \"nixpkgs\"; outputs = { nixpkgs, ... }: { colmena = import ./hosts.nix (import nixpkgs { system = \"x86_64-linux\"; }); }; }").unwrap();
    let is_here = |path: &str| operator.store().join(path.trim_start_matches('/')).exists();

    fleet.write("own.nix", &own("one", "deployment.buildOnTarget = true;")).unwrap();
    bosco(operator, &fleet, &["apply", "--keep-result"])
        .exits(0)
        .says("web: committed")
        .says("it was built there, and is not here")
        .does_not_say("buildOnTarget");
    assert_eq!(web.ssh_ok("cat /etc/built").unwrap().trim(), "one");
    assert!(!is_here(&toplevel_of(web)), "the toplevel is in the store here");

    fleet.write("own.nix", &own("two", "")).unwrap();
    bosco(operator, &fleet, &["apply", "--build-on-target"]).exits(0).says("web: committed");
    assert_eq!(web.ssh_ok("cat /etc/built").unwrap().trim(), "two");
    assert!(!is_here(&toplevel_of(web)), "the toplevel is in the store here");

    let broken = "environment.etc.broken.source = pkgs.runCommand \"broken\" { } \"echo no way; exit 1\";";
    fleet.write("own.nix", &own("two", broken)).unwrap();
    bosco(operator, &fleet, &["apply", "--build-on-target"])
        .exits(3)
        .says("it does not build there")
        .says("no way");

    // Nix's own way to have another machine build.
    fleet.write("own.nix", &own("three", "")).unwrap();
    let said = Said::of(&command(operator, &fleet, &["apply", "--build-on", "web", "-v"]).output().unwrap());
    said.exits(0).says("web: committed");
    assert_eq!(web.ssh_ok("cat /etc/built").unwrap().trim(), "three");
    // Nix knows of a path whether it was built in this store.
    let path = web.ssh_ok("readlink -f /etc/built").unwrap().trim().to_owned();
    let info = "--extra-experimental-features nix-command path-info --json";
    let there = web.ssh_ok(&format!("nix {info} {path}")).unwrap();
    assert!(there.contains("\"ultimate\":true"), "it was not built there: {there}");
    let here = operator.command("nix").args(info.split(' ')).arg(&path).output().unwrap();
    let here = String::from_utf8_lossy(&here.stdout).into_owned();
    assert!(here.contains("narHash") && !here.contains("\"ultimate\":true"), "it was built here: {here}");
}

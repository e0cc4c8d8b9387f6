//! A hub that builds what operators evaluate, on real machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::pull::{HUB, Pull};
use testbed::{Lab, LabSpec};

#[test]
fn a_hub_builds_what_an_operator_has_evaluated_and_hosts_take_it_from_there() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.enroll_agents();

    // Where its bosco.toml does not say so, a hub builds nothing.
    let file = pull.fleet.path().join("bosco.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let builds = text.replace("\n[operators", "builds = true\n\n[operators");
    assert_ne!(text, builds);
    std::fs::write(&file, &builds).unwrap();
    let key = lab.operator().ssh_key();
    let signs = ["release", "--sign-with", key.to_str().unwrap()];
    pull.bosco(&signs).exits(3).says("this hub does not build");
    pull.bosco(&["apply", "--on", HUB]).exits(0);

    // What can't be built is told with Nix's own words.
    let script = |script: &str| {
        format!("environment.etc.made.source = pkgs.runCommand \"made-there\" {{ }} ''{script}'';")
    };
    pull.with_agent("laptop", &script("echo no such thing >&2; exit 1"));
    pull.bosco(&signs).exits(3).says("the hub could not build it").says("made-there");

    pull.with_agent("laptop", &script("echo there > $out"));
    let release = pull.release();
    pull.until_at("laptop", release);
    let laptop = lab.host("laptop").unwrap();
    assert_eq!(laptop.ssh_ok("cat /etc/made").unwrap().trim(), "there");
    let runs = laptop.ssh_ok("readlink /run/current-system").unwrap();
    let here = lab.operator().command("nix-store").args(["--check-validity", runs.trim()]).output().unwrap();
    assert!(!here.status.success(), "the operator's own Nix has built {runs}");
    pull.bosco(&["releases"]).exits(0).says("the hub builds");
    assert_eq!(pull.hub().ssh_ok("ls /var/lib/bosco-hub/builds").unwrap().trim(), "", "a root is left");
}

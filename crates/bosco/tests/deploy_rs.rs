//! A fleet that is written for deploy-rs is deployed as it is, with all of its profiles, or not at all.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::path::PathBuf;

use common::{bosco, json, state};
use testbed::fleet::{Fleet, sample};
use testbed::{Host, Lab, LabSpec, Operator};

/// What the fleet's profiles are to be.
fn versions(fleet: &Fleet<'_>, system: &str, home: &str, tool: &str) {
    let text = format!("{{ system = \"{system}\"; home = \"{home}\"; tool = \"{tool}\"; }}");
    fleet.write("versions.nix", &text).unwrap();
}

/// Where the fleet's profiles write down that they were activated.
fn prepare(host: &Host) {
    host.ssh_ok("install -m 666 /dev/null /srv/activations").unwrap();
}

/// What was activated since it was last asked.
fn activations(host: &Host) -> Vec<String> {
    let said = host.ssh_ok("cat /srv/activations; : > /srv/activations").unwrap();
    said.lines().map(str::to_owned).collect()
}

/// All that is to be seen of a host's profiles: what runs, what they name, with their owners, and the generations of each.
fn profiles(host: &Host) -> String {
    host.ssh_ok(
        "cat /run/current-system/etc/version; echo; readlink -f /run/current-system
         // The first one of the system is what was installed.
        let system = round.parse::<u32>().unwrap() + 1;
        for link in [format!("system-{system}-link"), format!("tool-{round}-link"), format!("home-{round}-link")] {
            assert!(seen.contains(&format!(" {link}\n")), "{round}, by bosco: {by_bosco}: {link} in {seen}");
        }
        assert_eq!(state(operator, &fleet, "host1"), "up-to-date", "by bosco: {by_bosco}");
        apply(operator, &fleet, 0).says("up to date");
    }
    // What one has left, the other goes back to.
    versions(&fleet, "7", "broken", "7");
    let before = profiles(host);
    apply(operator, &fleet, 4);
    assert_eq!(profiles(host), before);
}

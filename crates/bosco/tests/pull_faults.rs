//! The hub is not there when hosts need it: in the middle of an activation, or when a report is due.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::pull::{HUB, Pull};
use testbed::{Lab, LabSpec};

/// A switch that waits until it may go on.
const WAITS_IN_THE_SWITCH: &str =
    "system.activationScripts.wait = \"until [ -e /root/go ]; do sleep 0.1; done\";";

#[test]
fn a_hub_that_goes_away_in_the_window_takes_a_good_system_back_and_hears_of_it_when_it_is_back() {
    const HOST: &str = "laptop";
    let lab = Lab::up(&LabSpec::named([HUB, HOST])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    let short = "deployment.update.confirmTimeout = lib.mkForce 5;";
    pull.with_agent(HOST, short);
    pull.enroll_agents();
    let host = lab.host(HOST).unwrap();
    let runs = || host.at_keyboard("readlink /run/current-system").unwrap();
    let before = runs();

    pull.with_agent(HOST, &format!("{short} {WAITS_IN_THE_SWITCH}"));
    let number = pull.release();
    pull.until_attempt(HOST, number, "switching", |attempt| attempt["state"] == "switching");
    pull.hub().ssh_ok("systemctl stop bosco-hub").unwrap();
    pull.go(HOST);
    let attempt = pull.until_attempt(HOST, number, "ended", |attempt| attempt["state"] == "ended");
    assert_eq!(attempt["ending"]["ending"], "inconclusive", "{attempt}\n{}", pull.log(HOST));
    assert_eq!(runs(), before);
    let journal = pull.journal(HOST);
    assert_eq!(journal["quarantine"].as_array().map(Vec::len), Some(0), "{journal}");

    // The report waits for the hub, through another start of the agent too.
    let waiting = "for try in $(seq 100); do ls /nix/var/bosco/reports/*.json 2>/dev/null && exit; sleep 0.1; done; exit 1";
    assert_eq!(host.at_keyboard(waiting).unwrap().lines().count(), 1);
    host.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.hub().ssh_ok("systemctl start bosco-hub").unwrap();
    let stands = pull.until(HOST, "failing", |stands| stands["state"] == "failing");
    assert!(stands["reason"].as_str().unwrap().contains("inconclusive"), "{stands}");
    pull.until(HOST, "reported", |_| !pull.reports(HOST).is_empty());
    assert_eq!(pull.reports(HOST), [(number, "inconclusive".to_owned())]);
    assert_eq!(host.at_keyboard("ls /nix/var/bosco/reports").unwrap(), "");

    // Minutes later, which are made short here, it is tried again without anybody's word.
    host.at_keyboard(
        "systemctl stop bosco-agent && cd /nix/var/bosco && grep -q '\"wait\":[0-9]' pull.json && \
         sed -i 's/\"wait\":[0-9]*/\"wait\":0/' pull.json && systemctl start bosco-agent",
    )
    .unwrap();
    pull.until_at(HOST, number);
    pull.until(HOST, "reported", |_| pull.reports(HOST).len() > 1);
    assert_eq!(pull.reports(HOST), [(number, "committed".to_owned()), (number, "inconclusive".to_owned())]);
}

/// All that many hosts are in the middle of an activation while the hub restarts.
fn activate_while_the_hub_restarts(count: usize) {
    let names: Vec<String> = (1..=count).map(|number| format!("host{number}")).collect();
    let lab = Lab::up(&LabSpec::named([HUB.to_owned()].into_iter().chain(names.clone()))).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.enroll_agents();
    for name in &names {
        pull.with_agent(name, WAITS_IN_THE_SWITCH);
    }
    let number = pull.release();
    for name in &names {
        pull.until_attempt(name, number, "switching", |attempt| attempt["state"] == "switching");
    }
    // Half of them are to prove themselves to the hub that goes, half to the one that comes.
    let (first, second) = names.split_at(count / 2);
    first.iter().for_each(|name| pull.go(name));
    pull.kill_hub();
    second.iter().for_each(|name| pull.go(name));
    pull.until_hub();
    for name in &names {
        pull.until_at(name, number);
        let journal = pull.journal(name);
        assert_eq!(journal["quarantine"].as_array().map(Vec::len), Some(0), "{name}: {journal}");
        pull.until(name, "reported", |_| pull.reports(name).contains(&(number, "committed".to_owned())));
    }
}

#[test]
fn hosts_that_activate_while_the_hub_restarts_all_come_to_the_release() {
    activate_while_the_hub_restarts(4);
}

#[test]
#[ignore = "ten machines: on demand"]
fn ten_hosts_that_activate_while_the_hub_restarts_all_come_to_the_release() {
    activate_while_the_hub_restarts(10);
}

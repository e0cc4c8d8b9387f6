//! A change that only a reboot can bring in: the system is booted once, proven then, and only then made the default; on real
//! machines, whose boot loader is micronix'. What a real boot loader does is tried in `emulated.rs`.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::follow::Apply;
use common::{boot, bosco, command, stands, state};
use testbed::fleet::{Fleet, sample};
use testbed::{Lab, LabSpec, Operator, Unsynced};

/// Far more than a boot takes.
const LIMIT: Duration = Duration::from_secs(120);
/// Makes another kernel, as far as these machines have one.
const OTHER_KERNEL: &str = "boot.initrd.other = true;";

/// The plain fleet, whose host1 has bosco's modules.
fn fleet(operator: &Operator) -> Fleet<'_> {
    let fleet = sample(operator, "plain").unwrap();
    for module in ["deployment", "activation", "host"] {
        let from = common::repository().join(format!("nix/modules/{module}.nix"));
        fleet.write(format!("{module}.nix"), &fs::read_to_string(from).unwrap()).unwrap();
    }
    fleet
}

fn write(fleet: &Fleet<'_>, more: &str) {
    let host = format!(
        "{{ pkgs, lib, config, ... }}: {{ imports = [ ./deployment.nix ./activation.nix ./host.nix ]; \
         networking.hostName = \"host1\"; deployment.update = {{ confirmTimeout = 20; activationTimeout = 90; }}; {more} }}"
    );
    fleet.write("host1.nix", &host).unwrap();
}

/// With bosco's module on it, and nothing to be done.
fn start(operator: &Operator, fleet: &Fleet<'_>) {
    write(fleet, "services.bosco.enable = true;");
    bosco(operator, fleet, &["apply", "host1"]).exits(0);
    bosco(operator, fleet, &["reboot", "host1"]).exits(0).says("1 rebooted: host1");
    assert_eq!(state(operator, fleet, "host1"), "up-to-date");
}

#[test]
fn another_kernel_is_booted_once_proven_and_only_then_made_the_default() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet(operator);
    start(operator, &fleet);

    write(&fleet, &format!("services.bosco.enable = true; {OTHER_KERNEL}"));
    let before = boot(host);
    bosco(operator, &fleet, &["apply", "host1", "--verbose", "--reboot"])
        .exits(0)
        .says("preparing its boot entry")
        .says("1 committed: host1");
    assert_ne!(boot(host), before, "it has not rebooted");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(LIMIT).unwrap();
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date", "what was proven is not the default");
    host.ssh_ok("! ls /nix/var/nix/profiles/system-profiles/*candidate* 2>/dev/null; ! grep -l candidate /boot/loader/entries/*")
        .unwrap();
}

#[test]
fn a_kernel_whose_system_does_not_hold_is_rebooted_away_from() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet(operator);
    start(operator, &fleet);
    let before = stands(host);
    let broken = "systemd.services.broken = { wantedBy = [ \"multi-user.target\" ]; \
                  serviceConfig = { Type = \"oneshot\"; ExecStart = \"${pkgs.busybox}/bin/false\"; }; };";
    write(&fleet, &format!("services.bosco.enable = true; {OTHER_KERNEL} {broken}"));
    bosco(operator, &fleet, &["apply", "host1", "--reboot"])
        .exits(4)
        .says("reverted: broken.service has failed");
    assert_eq!(stands(host), before);
    assert_eq!(state(operator, &fleet, "host1"), "reverted");
}

#[test]
fn a_system_that_does_not_come_up_is_fallen_back_from_and_that_is_told() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet(operator);
    start(operator, &fleet);
    let before = stands(host);
    // Its init ends at once, as that of a kernel that panics; the machine is off then, and the test is its watchdog.
    let panics = "system.extraSystemBuilderCmds = \"rm -f $out/init; printf '#!/bin/sh\\nexit 1\\n' > $out/init; chmod +x $out/init\";";
    write(&fleet, &format!("services.bosco.enable = true; {OTHER_KERNEL} {panics}"));
    let apply = Apply::start(operator, &fleet, &["host1", "--reboot"]);
    let started = Instant::now();
    while host.is_running() {
        assert!(started.elapsed() < LIMIT, "it has never gone down: {}", host.console());
        std::thread::sleep(Duration::from_millis(50));
    }
    host.boot().unwrap();
    let came = apply.ends().exits(4);
    let outcome = came.outcome("host1");
    assert_eq!(outcome["outcome"], "reverted", "{outcome}");
    assert!(outcome["reason"].as_str().unwrap().contains("did not come up"), "{outcome}");
    assert_eq!(stands(host), before);
}

#[test]
fn without_boscos_module_a_reboot_is_said_to_be_unproven_before_it_is_done() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet(operator);
    write(&fleet, OTHER_KERNEL);
    let before = boot(host);
    bosco(operator, &fleet, &["apply", "host1"]).exits(0).says("reboot needed");
    assert_eq!(boot(host), before, "nobody has asked for a reboot");
    assert_eq!(state(operator, &fleet, "host1"), "reboot-needed");
    bosco(operator, &fleet, &["reboot", "--if-needed", "host1"]).exits(0).says("1 rebooted: host1");
    bosco(operator, &fleet, &["reboot", "--if-needed", "host1"]).exits(0).says("no reboot needed");

    write(&fleet, "boot.initrd.another = true;");
    let said = command(operator, &fleet, &["apply", "host1", "--reboot"]).output().unwrap();
    let said =
        common::Said::of(&said).exits(0).says("unproven").says("unprotected").says("1 committed: host1");
    let warned = said.err.find("unprotected").unwrap();
    let rebooted = said.err.find("committed").unwrap();
    assert!(warned < rebooted, "it was told too late: {}", said.err);
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

#[test]
fn a_host_reboots_by_itself_only_where_its_configuration_says_so() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet(operator);
    start(operator, &fleet);
    let before = boot(host);
    write(
        &fleet,
        &format!("services.bosco.enable = true; {OTHER_KERNEL} deployment.update.reboot = \"when-needed\";"),
    );
    bosco(operator, &fleet, &["apply", "host1"]).exits(0).says("1 committed: host1");
    assert_ne!(boot(host), before, "its configuration lets it reboot");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

//! A candidate that panics, and one that hangs, deployed by bosco to machines with a real kernel and a real boot loader, under
//! emulation: they fall back by themselves, and bosco tells. Minutes each, so on demand only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{bosco, state};
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec, Loader, Operator};

/// A boot takes half a minute, and much longer where others are emulated beside it.
const BOOT: Duration = Duration::from_secs(300);

/// A fleet of one host, with bosco's modules.
fn fleet(operator: &Operator) -> Fleet<'_> {
    let fleet = create(operator, "emulated").unwrap();
    for module in ["deployment", "activation", "host"] {
        let from = common::repository().join(format!("nix/modules/{module}.nix"));
        fleet.write(format!("{module}.nix"), &fs::read_to_string(from).unwrap()).unwrap();
    }
    let flake = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.web = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ ./deployment.nix ./activation.nix ./host.nix ./web.nix ];
    };
  };
}
"#;
    fleet.write("flake.nix", flake).unwrap();
    fleet
}

fn write(fleet: &Fleet<'_>, loader: Loader, more: &str) {
    let loader = match loader {
        Loader::SystemdBoot => "boot.loader.systemd-boot.enable = true;",
        Loader::Grub => "boot.loader.grub.enable = true;",
    };
    // One kernel parameter more is another boot entry for bosco, as another kernel is.
    let host = format!(
        "{{ pkgs, lib, ... }}: {{ networking.hostName = \"web\"; services.openssh.enable = true; system.stateVersion = \"26.05\"; \
         services.bosco.enable = true; {loader} boot.loader.timeout = 1; \
         systemd.settings.Manager.RuntimeWatchdogSec = \"20s\"; \
         deployment.update = {{ confirmTimeout = 60; activationTimeout = 280; }}; {more} }}"
    );
    fleet.write("web.nix", &host).unwrap();
    fleet.commit().unwrap();
}

fn runs(host: &Host) -> String {
    host.ssh_ok("readlink /run/current-system; readlink /run/booted-system; uname -r").unwrap()
}

/// Brings a machine to candidates that come up, panic and hang, and looks where it stands after each.
fn try_all(loader: Loader) {
    let lab = Lab::up(&LabSpec::named(["web"]).emulated("web", loader)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("web").unwrap());
    host.wait_for_ssh(BOOT).unwrap();
    let fleet = fleet(operator);
    write(&fleet, loader, "");
    bosco(operator, &fleet, &["apply", "web"]).exits(0);
    bosco(operator, &fleet, &["reboot", "web"]).exits(0);
    assert_eq!(state(operator, &fleet, "web"), "up-to-date");

    // Nothing is wrong with this one.
    write(&fleet, loader, "boot.kernelParams = [ \"good\" ];");
    bosco(operator, &fleet, &["apply", "web", "--reboot"]).exits(0).says("1 committed: web");
    host.ssh_ok("grep -qw good /proc/cmdline").unwrap();
    let stands = runs(host);

    let replaced = |script: &str| {
        format!(
            "system.extraSystemBuilderCmds = \"rm -f $out/init; printf '#!/bin/sh\\n{script}\\n' > $out/init; chmod +x $out/init\";"
        )
    };
    for (what, script) in [("panics", "exit 1"), ("hangs", "while :; do /bin/sleep 1000; done")] {
        write(
            &fleet,
            loader,
            &format!("boot.kernelParams = lib.mkAfter [ \"{what}\" \"panic=5\" ]; {}", replaced(script)),
        );
        let started = Instant::now();
        bosco(operator, &fleet, &["apply", "web", "--reboot"])
            .exits(4)
            .says("reverted: it did not come up when it was booted");
        let took = started.elapsed();
        assert_eq!(runs(host), stands, "a candidate that {what} has changed what runs");
        assert_eq!(state(operator, &fleet, "web"), "reverted");
        println!("{loader:?}: a candidate that {what}: told after {} s", took.as_secs());
    }
    // And it can be deployed to as before.
    write(&fleet, loader, "boot.kernelParams = [ \"good\" ]; environment.etc.after.text = \"yes\";");
    bosco(operator, &fleet, &["apply", "web"]).exits(0).says("1 committed: web");
}

#[test]
#[ignore = "emulates a machine for ten minutes: cargo test -p bosco --test emulated -- --ignored --nocapture"]
fn candidates_that_panic_and_hang_are_fallen_back_from_unattended_with_systemd_boot() {
    try_all(Loader::SystemdBoot);
}

#[test]
#[ignore = "emulates a machine for ten minutes: cargo test -p bosco --test emulated -- --ignored --nocapture"]
fn candidates_that_panic_and_hang_are_fallen_back_from_unattended_with_grub() {
    try_all(Loader::Grub);
}

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

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It comes up.
    Good,
    /// Its init ends, and the kernel panics.
    Panics,
    /// Its init never gets anywhere.
    Hangs,
}

/// Deploys a candidate to a machine, which boots it once, and looks where the machine stands then.
fn boot_once(loader: Loader, fate: Fate) {
    let lab = Lab::up(&LabSpec::named(["web"]).emulated("web", loader)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("web").unwrap());
    host.wait_for_ssh(BOOT).unwrap();
    let fleet = fleet(operator);
    write(&fleet, loader, "");
    bosco(operator, &fleet, &["apply", "web"]).exits(0);
    let stands = runs(host);

    let replaced = |script: &str| {
        format!(
            "system.systemBuilderCommands = \"rm -f $out/init; printf '#!/bin/sh\\n{script}\\n' > $out/init; chmod +x $out/init\";"
        )
    };
    let more = match fate {
        Fate::Good => String::new(),
        Fate::Panics => replaced("exit 1"),
        Fate::Hangs => replaced("while :; do /bin/sleep 1000; done"),
    };
    write(&fleet, loader, &format!("boot.kernelParams = lib.mkAfter [ \"candidate\" \"panic=5\" ]; {more}"));
    let started = Instant::now();
    let said = bosco(operator, &fleet, &["apply", "web", "--reboot"]);
    println!("{loader:?}, {fate:?}: told after {} s", started.elapsed().as_secs());
    if let Fate::Good = fate {
        said.exits(0).says("1 committed: web");
        host.ssh_ok("grep -qw candidate /proc/cmdline").unwrap();
        assert_eq!(state(operator, &fleet, "web"), "up-to-date");
        return;
    }
    said.exits(4).says("reverted: it did not come up when it was booted");
    // It has booted: the kernel is the same one, and so is all that runs.
    assert_eq!(
        runs(host).lines().next(),
        stands.lines().next(),
        "a candidate that {fate:?} has changed what runs"
    );
    assert_eq!(state(operator, &fleet, "web"), "reverted");
}

macro_rules! on_demand {
    ($($name:ident: $loader:ident, $fate:ident;)*) => {$(
        #[test]
        #[ignore = "emulates a machine for minutes: cargo test -p bosco --test emulated -- --ignored --nocapture --test-threads 1"]
        fn $name() {
            boot_once(Loader::$loader, Fate::$fate);
        }
    )*};
}

on_demand! {
    a_good_kernel_is_booted_once_and_committed_with_systemd_boot: SystemdBoot, Good;
    a_candidate_that_panics_is_fallen_back_from_unattended_with_systemd_boot: SystemdBoot, Panics;
    a_candidate_that_hangs_is_fallen_back_from_unattended_with_systemd_boot: SystemdBoot, Hangs;
    a_good_kernel_is_booted_once_and_committed_with_grub: Grub, Good;
    a_candidate_that_panics_is_fallen_back_from_unattended_with_grub: Grub, Panics;
    a_candidate_that_hangs_is_fallen_back_from_unattended_with_grub: Grub, Hangs;
}

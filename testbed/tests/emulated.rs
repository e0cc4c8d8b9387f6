//! A candidate that is booted once, through an entry of its own, leaves an emulated machine on its old system whatever
//! becomes of it: with a real kernel, real boot loaders and a watchdog. Nothing of bosco is in it: these are the tools that
//! it leans on. The systems come from micronix/tests/emulated.nix.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may fail loudly, and say what took how long"
)]

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use testbed::{Host, Lab, LabSpec, Loader, Unsynced};

/// Far more than a machine takes to boot, be it twice and on a busy machine below.
const BOOT: Duration = Duration::from_secs(400);
const COMMAND: Duration = Duration::from_secs(200);
const PROFILES: &str = "/nix/var/nix/profiles";
/// GRUB's installer in NixOS has no entries for a profile whose name has a hyphen.
const CANDIDATE: &str = "bosco_candidate";

/// One emulated machine whose default is `old`, with a candidate in its store.
struct Machine {
    lab: Lab,
    loader: Loader,
    systems: BTreeMap<&'static str, String>,
}

impl Machine {
    fn with(loader: Loader, candidate: &'static str) -> Self {
        let start = Instant::now();
        let lab = Lab::up(&LabSpec::named(["web"]).emulated("web", loader)).unwrap();
        eprintln!("{loader:?}: up after {:.0?}", start.elapsed());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/micronix/tests/emulated.nix");
        let nixpkgs = lab.operator().micronix().display().to_string();
        let name = match loader {
            Loader::SystemdBoot => "systemd-boot",
            Loader::Grub => "grub",
        };
        let names = ["old", candidate];
        let mut args = vec!["build", "--no-link", "--print-out-paths", "--file", file];
        args.extend(["--arg", "nixpkgs", &nixpkgs, "--argstr", "loader", name]);
        args.extend(names);
        let built = lab.operator().nix(args).unwrap();
        let systems: BTreeMap<_, _> = names.into_iter().zip(built.lines().map(str::to_owned)).collect();
        let mut copy = vec!["copy", "--no-check-sigs", "--to", "ssh://web"];
        copy.extend(systems.values().map(String::as_str));
        lab.operator().nix(copy).unwrap();
        let machine = Self { lab, loader, systems };
        machine.ask(&format!("nix-env --profile {PROFILES}/system --set {}", machine.systems["old"]));
        machine.ask(&format!(
            "mkdir -p {PROFILES}/system-profiles; nix-env --profile {PROFILES}/system-profiles/{CANDIDATE} --set {}",
            machine.systems[candidate]
        ));
        machine.ask(&format!("{}/bin/switch-to-configuration boot", machine.systems["old"]));
        machine
    }

    fn host(&self) -> &Host {
        self.lab.host("web").unwrap()
    }

    #[track_caller]
    fn ask(&self, script: &str) -> String {
        let output = self.host().ssh_within(&format!("exec 2>&1; {script}"), COMMAND).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "`{script}` fails:\n{text}");
        text
    }

    /// The candidate boots next time, and only then.
    fn choose_once(&self) {
        match self.loader {
            Loader::SystemdBoot => {
                self.ask(&format!("bootctl set-oneshot nixos-{CANDIDATE}-generation-1.conf"));
            }
            Loader::Grub => {
                let title = self.ask(&format!(
                    "sed -n '/Profile .{CANDIDATE}/,$ s/^menuentry \"\\([^\"]*\\)\".*/\\1/p' /boot/grub/grub.cfg"
                ));
                assert!(title.starts_with("NixOS - Configuration 1 ("), "{title}");
                self.ask(&format!("grub-reboot \"NixOS - Profile '{CANDIDATE}'>{title}\""));
            }
        }
    }

    /// Reboots, waits until the machine is there again, and says which system it is.
    fn reboot(&self) -> &str {
        let boot = || {
            let said = self.host().ssh_within("cat /proc/sys/kernel/random/boot_id", COMMAND).unwrap();
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        };
        let before = boot();
        self.host().ssh_within("systemctl reboot", COMMAND).unwrap();
        let start = Instant::now();
        loop {
            // In between, the machine is away, and says nothing.
            let now = boot();
            if now.len() == before.len() && now != before {
                break;
            }
            assert!(start.elapsed() < BOOT, "it does not come back; its console:\n{}", self.host().console());
            sleep(Duration::from_millis(100));
        }
        self.host().wait_for_boot(BOOT).unwrap();
        let booted = self.ask("readlink /run/booted-system");
        eprintln!("{:?}: {booted} after {:.0?}", self.loader, start.elapsed());
        let name = self.systems.iter().find(|(_, system)| **system == booted).map(|(name, _)| *name);
        name.unwrap_or("another system")
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.host().console_log()).unwrap()).into_owned()
    }
}

fn runs_once(loader: Loader) {
    let machine = Machine::with(loader, "good");
    machine.choose_once();
    assert_eq!(machine.reboot(), "good");
    assert_eq!(machine.ask("cat /etc/version"), "good");
    let parameters = machine.ask("cat /proc/cmdline");
    assert!(parameters.contains("systemd.watchdog_sec=120"), "{parameters}");
    assert!(machine.console().contains("stage 1: the watchdog resets this machine in 120s"));
    let watchdog =
        machine.ask("systemctl show --property RuntimeWatchdogUSec; cat /sys/class/watchdog/watchdog0/state");
    assert_eq!(watchdog, "RuntimeWatchdogUSec=2min\nactive", "systemd has taken the watchdog over");
    assert_eq!(machine.reboot(), "old");
}

fn panics(loader: Loader) {
    let machine = Machine::with(loader, "panics");
    machine.choose_once();
    assert_eq!(machine.reboot(), "old");
    let console = machine.console();
    let (_, after) = console.split_once("this init ends").unwrap();
    assert!(after.contains("Kernel panic - not syncing: Attempted to kill init!"), "{after}");
}

fn hangs(loader: Loader) {
    let machine = Machine::with(loader, "hangs");
    machine.choose_once();
    assert_eq!(machine.reboot(), "old");
    assert_eq!(machine.console().matches("this init hangs").count(), 1, "the candidate was booted once");
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_runs_once_and_the_old_system_is_next_with_systemd_boot() {
    runs_once(Loader::SystemdBoot);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_runs_once_and_the_old_system_is_next_with_grub() {
    runs_once(Loader::Grub);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_that_panics_leaves_the_machine_on_its_old_system_with_systemd_boot() {
    panics(Loader::SystemdBoot);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_that_panics_leaves_the_machine_on_its_old_system_with_grub() {
    panics(Loader::Grub);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_that_hangs_leaves_the_machine_on_its_old_system_with_systemd_boot() {
    hangs(Loader::SystemdBoot);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn a_candidate_that_hangs_leaves_the_machine_on_its_old_system_with_grub() {
    hangs(Loader::Grub);
}

#[test]
#[ignore = "emulated, minutes: cargo test -p testbed --test emulated -- --ignored"]
fn an_emulated_host_is_a_host_of_its_lab_like_every_other() {
    let lab = Lab::up(&LabSpec::named(["real", "web"]).emulated("web", Loader::SystemdBoot)).unwrap();
    let host = lab.host("web").unwrap();
    host.wait_for_boot(BOOT).unwrap();
    assert_eq!(host.ssh_ok("hostname").unwrap(), "web\n");
    lab.host("real").unwrap().ssh_ok("</dev/tcp/10.77.1.2/22").unwrap();

    host.cut().unwrap();
    host.connect(22, Duration::from_secs(2)).unwrap_err();
    host.heal().unwrap();
    host.wait_for_ssh(COMMAND).unwrap();

    host.ssh_ok("echo 1 > /root/synced && sync && echo 2 > /root/unsynced").unwrap();
    host.power_cut(Unsynced::Lost).unwrap();
    assert!(!host.is_running());
    host.boot().unwrap();
    host.wait_for_ssh(BOOT).unwrap();
    assert_eq!(host.ssh_ok("cat /root/synced; cat /root/unsynced 2> /dev/null; true").unwrap(), "1\n");

    let error = host.fill_disk().unwrap_err().to_string();
    assert!(error.contains("can't be had from outside on an emulated host"), "{error}");
    assert!(!host.root().exists());
}

//! A machine with micronix does what a NixOS machine does: one test for each group of facts that bosco leans on, on real
//! machines. The systems come from micronix/tests/machine.nix.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, in their helpers too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use testbed::{Host, Lab, LabSpec, Operator};

/// Far more than any command here takes.
const LIMIT: Duration = Duration::from_secs(120);
const SWITCH: &str = "bin/switch-to-configuration";

/// Builds systems of machine.nix; their toplevels by name.
fn build(operator: &Operator, names: &[&str]) -> BTreeMap<String, String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/micronix/tests/machine.nix");
    let nixpkgs = operator.micronix().display().to_string();
    let mut args =
        vec!["build", "--no-link", "--print-out-paths", "--file", file, "--arg", "nixpkgs", &nixpkgs];
    args.extend(names);
    let built = operator.nix(args).unwrap();
    let paths: Vec<&str> = built.lines().collect();
    assert_eq!(paths.len(), names.len(), "one toplevel for each of {names:?}:\n{built}");
    names.iter().zip(paths).map(|(name, path)| ((*name).to_owned(), path.to_owned())).collect()
}

/// What a command on the machine ended with and said, on both of its outputs.
struct Said {
    code: i32,
    text: String,
}

impl Said {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code, after:\n{}", self.text);
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.text.contains(words), "expected `{words}` in:\n{}", self.text);
        self
    }

    #[track_caller]
    fn says_not(self, words: &str) -> Self {
        assert!(!self.text.contains(words), "expected no `{words}` in:\n{}", self.text);
        self
    }

    /// The units in a line of this switch's output.
    #[track_caller]
    fn units(&self, words: &str) -> Vec<&str> {
        let line = self.text.lines().find_map(|line| line.strip_prefix(words)?.strip_prefix(": "));
        line.map(|units| units.split(", ").collect()).unwrap_or_default()
    }
}

/// One machine, with some systems in its store.
struct Machine {
    lab: Lab,
    systems: BTreeMap<String, String>,
}

impl Machine {
    fn with(names: &[&str]) -> Self {
        let lab = Lab::up(&LabSpec::new(1)).unwrap();
        let systems = build(lab.operator(), names);
        let mut copy = vec!["copy", "--no-check-sigs", "--to", "ssh://host1"];
        copy.extend(systems.values().map(String::as_str));
        lab.operator().nix(copy).unwrap();
        Self { lab, systems }
    }

    fn host(&self) -> &Host {
        self.lab.host("host1").unwrap()
    }

    fn run(&self, script: &str) -> Said {
        let output = self.host().ssh_within(&format!("exec 2>&1; {script}"), LIMIT).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Said { code: output.status.code().unwrap_or(-1), text }
    }

    /// What a command says that must succeed.
    #[track_caller]
    fn ask(&self, script: &str) -> String {
        self.run(script).ends(0).text.trim().to_owned()
    }

    fn switch(&self, system: &str, action: &str) -> Said {
        self.run(&format!("{}/{SWITCH} {action}", self.systems[system]))
    }

    /// As [`Self::switch`], with variables set.
    fn switch_with(&self, variables: &str, system: &str, action: &str) -> Said {
        self.run(&format!("{variables} {}/{SWITCH} {action}", self.systems[system]))
    }

    fn current(&self) -> String {
        self.ask("readlink /run/current-system")
    }

    fn state(&self, unit: &str) -> String {
        self.run(&format!("systemctl is-active {unit}")).text.trim().to_owned()
    }

    /// Reboots and waits until the machine is there again.
    fn reboot(&self) {
        let boot = || self.run("cat /proc/sys/kernel/random/boot_id").text;
        let before = boot();
        self.run("systemctl reboot");
        let start = Instant::now();
        loop {
            sleep(Duration::from_millis(50));
            // In between, the machine is away, and says nothing or an error of ssh's.
            let now = boot();
            if now.len() == before.len() && now != before {
                return self.host().wait_for_boot(LIMIT).unwrap();
            }
            assert!(
                start.elapsed() < LIMIT,
                "it does not come back; its console says\n{}",
                self.host().console()
            );
        }
    }

    fn set_profile(&self, profile: &str, system: &str) {
        self.ask(&format!(
            "mkdir -p $(dirname {profile}); nix-env --profile {profile} --set {}",
            self.systems[system]
        ));
    }
}

const PROFILE: &str = "/nix/var/nix/profiles/system";

#[test]
fn a_toplevel_is_laid_out_as_nixos_lays_it_out() {
    let operator = Operator::alone().unwrap();
    let systems = build(&operator, &["special"]);
    let toplevel = Path::new(&systems["special"]);
    let name = toplevel.file_name().unwrap().to_str().unwrap();
    assert!(name[33..].starts_with("nixos-system-unnamed-"), "{name}");
    // The operator's store lies below a folder, and links in it do not.
    let outside = |path: &Path| operator.store().join(path.strip_prefix("/").unwrap());
    for file in [
        "activate",
        "bin/switch-to-configuration",
        "boot.json",
        "dry-activate",
        "etc",
        "extra-dependencies",
        "init",
        "init-interface-version",
        "initrd",
        "kernel",
        "kernel-modules",
        "kernel-params",
        "nixos-version",
        "prepare-root",
        "specialisation/other",
        "sw",
        "switch-inhibitors",
        "system",
        "systemd",
    ] {
        let path = outside(toplevel).join(file);
        assert!(path.symlink_metadata().is_ok(), "a toplevel has {file}");
    }
    let read = |file: &str| std::fs::read_to_string(outside(toplevel).join(file)).unwrap();
    assert_eq!(read("system"), format!("{}-linux", std::env::consts::ARCH));
    assert!(read("init-interface-version").starts_with("systemd "));
    let wrapper = read(SWITCH);
    for variable in ["OUT", "TOPLEVEL", "DISTRO_ID", "PRE_SWITCH_CHECK", "INSTALL_BOOTLOADER", "SYSTEMD"] {
        assert!(wrapper.contains(&format!("export {variable}=")), "{variable} is exported:\n{wrapper}");
    }
    let etc = outside(&std::fs::read_link(outside(toplevel).join("etc")).unwrap());
    let units = outside(&std::fs::read_link(etc.join("systemd/system")).unwrap());
    for unit in
        ["sshd.service", "default.target", "multi-user.target", "multi-user.target.wants/sshd.service"]
    {
        assert!(units.join(unit).symlink_metadata().is_ok(), "etc/systemd/system has {unit}");
    }

    let boot: serde_json::Value = serde_json::from_str(&read("boot.json")).unwrap();
    let spec = &boot["org.nixos.bootspec.v1"];
    assert_eq!(spec["toplevel"], systems["special"]);
    assert_eq!(spec["init"], format!("{}/init", systems["special"]));
    let special = &boot["org.nixos.specialisation.v1"]["other"]["org.nixos.bootspec.v1"];
    let link = std::fs::read_link(outside(toplevel).join("specialisation/other")).unwrap();
    assert_eq!(special["toplevel"], link.to_str().unwrap());
    // It is a system of its own, which switches to itself.
    let wrapper = std::fs::read_to_string(outside(&link).join(SWITCH)).unwrap();
    assert!(wrapper.contains(&format!("export TOPLEVEL='{}'", link.display())), "{wrapper}");
    assert_eq!(outside(&link).join("specialisation").read_dir().unwrap().count(), 0);
}

#[test]
fn a_switch_treats_each_unit_as_nixos_does() {
    let machine = Machine::with(&["units-one", "units-two"]);
    machine.switch("units-one", "test").ends(0).says("the following new units were started: ");
    machine.ask("systemctl start manual by-socket; systemd-run --quiet --unit transient sleep infinity");
    machine.ask("systemd-run --quiet --unit broken false; sleep 0.2");
    assert_eq!(machine.state("broken"), "failed");

    // Saying what would be done does nothing.
    let picture = "readlink /run/current-system; cat /etc/version; systemctl show --property Id,ActiveEnterTimestampMonotonic,MainPID plain no-stop reloads goes sshd by-socket.socket tick.timer ordered.target; ls /run/nixos";
    let before = machine.ask(picture);
    let dry = machine.switch("units-two", "dry-activate").ends(0).says("would activate the configuration...");
    assert_eq!(machine.ask(picture), before, "dry-activate changes nothing");
    assert_eq!(machine.state("broken"), "failed", "dry-activate resets no failed unit");

    let done = machine.switch("units-two", "test").ends(0);
    assert_eq!(machine.current(), machine.systems["units-two"]);
    assert_eq!(machine.ask("cat /etc/version"), "two");
    for said in [("would stop", &dry), ("stopping", &done)] {
        let stopped = said.1.units(&format!("{} the following units", said.0));
        let expected = [
            "by-socket.service",
            "by-socket.socket",
            "goes.service",
            "masked.service",
            "plain.service",
            "triggered.service",
        ];
        assert_eq!(stopped, expected, "what a switch stops, in\n{}", said.1.text);
    }
    assert_eq!(
        dry.units("would NOT stop the following changed units"),
        ["manual.service", "no-restart.service"]
    );
    assert_eq!(
        done.units("NOT restarting the following changed units"),
        ["manual.service", "no-restart.service"]
    );
    assert_eq!(done.units("reloading the following units"), ["reload-triggered.service", "reloads.service"]);
    let restarted = done.units("restarting the following units");
    assert_eq!(
        restarted,
        ["no-stop.service", "same.service", "tick.timer"],
        "with what the activation script asks for"
    );
    let started = done.units("starting the following units");
    assert_eq!(
        started,
        ["by-socket.socket", "plain.service", "triggered.service"],
        "targets go without saying"
    );
    assert_eq!(done.units("the following new units were started"), ["comes.service"]);

    let expected = [
        ("transient", "active", "a transient unit is left alone"),
        ("stays", "active", "X-StopOnRemoval=false"),
        ("goes", "inactive", "a unit that is gone is stopped"),
        ("masked", "inactive", "a unit that is masked is stopped"),
        ("comes", "active", "a new unit that a target wants is started"),
        ("by-socket", "inactive", "a socket starts its service"),
        ("by-socket.socket", "active", "a socket is started again"),
        ("ordered.target", "active", "a target that stops on reconfiguration is started again"),
        ("broken", "inactive", "failed units are forgotten"),
    ];
    let units: Vec<&str> = expected.iter().map(|(unit, ..)| *unit).collect();
    let states = machine.run(&format!("systemctl is-active {}", units.join(" "))).text;
    for ((unit, expected, why), state) in expected.iter().zip(states.lines()) {
        assert_eq!(state, *expected, "{unit}: {why}");
    }
    let versions = machine
        .ask("cd /run; head -n 1 plain-start no-stop-start no-restart-start manual-start reloads-start");
    let versions: Vec<&str> = versions.lines().filter(|line| line.len() == 3).collect();
    let expected = ["two", "two", "one", "one", "one"];
    assert_eq!(versions, expected, "the versions that run, of plain, no-stop, no-restart, manual, reloads");
    assert_eq!(machine.ask("cat /run/reloaded /run/reload-triggered"), "two\nreloaded");
    assert_eq!(machine.ask("ls /run/nixos"), "switch-to-configuration.lock", "no list is left behind");
}

#[test]
fn a_switch_refuses_and_fails_with_nixos_exit_codes() {
    let names = [
        "plain",
        "fails",
        "activation-fails",
        "hangs",
        "refused",
        "inhibited",
        "other-init",
        "other-systemd",
    ];
    let machine = Machine::with(&names);
    machine.switch("plain", "test").ends(0);
    let plain = machine.current();
    machine
        .switch("plain", "reboot")
        .ends(1)
        .says("Usage: switch-to-configuration [check|switch|boot|test|dry-activate]");

    // The lock, under an activation that hangs, and free again when that is ended.
    let hang = format!("systemd-run --quiet --unit hang {}/{SWITCH} test", machine.systems["hangs"]);
    machine.ask(&format!("{hang}; until [ -e /run/hangs ]; do sleep 0.05; done"));
    machine.switch("plain", "test").ends(11).says("Could not acquire lock");
    machine.switch("plain", "check").ends(11);
    machine.ask("systemctl stop hang");
    machine.switch("plain", "test").ends(0);

    // Checks come before everything, and can be told to be silent.
    machine
        .switch("refused", "test")
        .ends(1)
        .says("Pre-switch check 'never' failed\nPre-switch checks failed\n");
    machine.switch("refused", "check").ends(1);
    machine.switch("refused", "boot").ends(1);
    machine
        .switch("inhibited", "test")
        .ends(1)
        .says("There are changes to critical components of the system");
    machine.switch("inhibited", "boot").ends(0).says_not("critical");
    assert_eq!(machine.current(), plain, "nothing of this has changed the system");
    machine.switch_with("NIXOS_NO_CHECK=1", "refused", "check").ends(0);
    machine.switch_with("NIXOS_NO_CHECK=1", "refused", "test").ends(0);
    assert_eq!(machine.ask("cat /etc/version"), "refused");

    // Another init means a reboot, and nothing before it.
    machine.switch("other-init", "test").ends(100).says("won't take effect until you reboot the system.");
    assert_eq!(machine.current(), machine.systems["refused"]);

    // A snippet that fails does not stop the rest.
    let failed = machine.switch("activation-fails", "test").ends(2);
    failed.says("Activation script snippet 'fails' failed (1)").says("Failed to run activate script");
    assert_eq!(machine.current(), machine.systems["activation-fails"]);
    assert_eq!(
        (machine.ask("cat /etc/version").as_str(), machine.state("after").as_str()),
        ("activation-fails", "active")
    );

    // A unit that fails, whether the switch has touched it or not.
    let failed =
        machine.switch("fails", "test").ends(4).says("warning: the following units failed: fails.service");
    failed.says("Active: failed (Result: exit-code)");
    machine.switch("plain", "test").ends(0);
    let flaps = "--property Restart=always --property RestartSec=1min";
    machine.ask(&format!("systemd-run --quiet --unit flaps {flaps} false"));
    machine.switch("plain", "test").ends(4).says("the following units failed: flaps.service");
    machine.ask("systemctl stop flaps");

    // systemd itself is started anew where its configuration has changed.
    machine.switch("other-systemd", "test").ends(0).says("restarting systemd...\n");
    assert_eq!(machine.ask("systemctl show --property DefaultTimeoutStopUSec"), "DefaultTimeoutStopUSec=33s");
    machine.switch("other-systemd", "test").ends(0).says_not("restarting systemd...");
}

#[test]
fn an_interrupted_switch_is_carried_on_by_the_next() {
    let machine = Machine::with(&["plain", "units-one"]);
    machine.switch("units-one", "test").ends(0);
    machine
        .ask("systemctl stop plain; for list in start restart reload; do rm -f /run/nixos/$list-list; done");
    machine.ask("echo plain.service > /run/nixos/start-list; echo no-stop.service > /run/nixos/restart-list; echo reloads.service > /run/nixos/reload-list");
    let carried = machine.switch("units-one", "test").ends(0);
    assert_eq!(carried.units("starting the following units"), ["plain.service"]);
    assert_eq!(carried.units("restarting the following units"), ["no-stop.service", "same.service"]);
    assert_eq!(carried.units("reloading the following units"), ["reloads.service"]);
    assert_eq!(machine.state("plain"), "active");
    assert_eq!(machine.ask("ls /run/nixos"), "switch-to-configuration.lock", "the lists are done with");

    // What only the interrupted system had cannot be started by another: whoever reverts must see to the lists.
    machine.ask("echo only-there.service > /run/nixos/start-list");
    machine.switch("plain", "test").ends(4).says("Failed to start only-there.service");
    assert_eq!(machine.current(), machine.systems["plain"]);
}

#[test]
fn a_machine_boots_what_the_boot_loader_says_and_not_what_the_profile_says() {
    let machine = Machine::with(&["plain", "other-kernel", "special", "limited"]);
    let first = machine.current();
    let menu = || machine.ask("cat /boot/loader/loader.conf; ls /boot/loader/entries");
    let default = || machine.ask("sed -n 's/^default //p' /boot/loader/loader.conf");
    assert_eq!(default(), "nixos-generation-1.conf");

    machine.set_profile(PROFILE, "other-kernel");
    machine.reboot();
    assert_eq!(machine.ask("readlink /run/booted-system"), first, "the profile alone boots nothing");

    // Making a system the default touches nothing that runs.
    machine.switch("other-kernel", "boot").ends(0).says_not("activating");
    assert_eq!((machine.current(), default()), (first, "nixos-generation-2.conf".to_owned()));
    machine.reboot();
    assert_eq!(machine.ask("readlink /run/booted-system"), machine.systems["other-kernel"]);
    assert_eq!(machine.ask("cat /etc/version"), "other-kernel", "the activation script runs at boot");
    let kernels = machine
        .ask("readlink -f /run/booted-system/kernel; readlink -f /nix/var/nix/profiles/system-1-link/kernel");
    let kernels: Vec<_> = kernels.lines().collect();
    assert_ne!(kernels[0], kernels[1], "another kernel is another path");

    // A profile of its own gives a candidate an entry that is not the default, for one boot.
    machine.set_profile("/nix/var/nix/profiles/system-profiles/candidate", "special");
    machine.switch("other-kernel", "boot").ends(0);
    assert_eq!(default(), "nixos-generation-2.conf");
    machine.ask("bootctl set-oneshot nixos-candidate-generation-1.conf");
    machine.reboot();
    assert_eq!(
        machine.ask("readlink /run/booted-system"),
        machine.systems["special"],
        "the entry for one boot"
    );
    machine.reboot();
    assert_eq!(
        machine.ask("readlink /run/booted-system"),
        machine.systems["other-kernel"],
        "and only for one"
    );

    // Specialisations have entries; switching to one keeps the default, and the next switch does not keep it.
    assert!(menu().contains("nixos-candidate-generation-1-specialisation-other.conf"), "{}", menu());
    let special = format!("{}/specialisation/other", machine.systems["special"]);
    machine.run(&format!("{special}/{SWITCH} switch")).ends(0);
    assert_eq!(
        (machine.ask("cat /etc/version").as_str(), default().as_str()),
        ("special", "nixos-generation-2.conf")
    );
    assert_eq!(machine.current(), machine.ask(&format!("readlink {special}")));
    machine.switch("special", "test").ends(0);
    assert_eq!(machine.ask("cat /etc/version"), "parent");

    // A toplevel of no generation is no default; old generations go by the new system's limit.
    machine.switch("limited", "boot").ends(0);
    assert_eq!(default(), "nixos-generation-2.conf");
    for system in ["plain", "limited"] {
        machine.set_profile(PROFILE, system);
    }
    machine.switch("limited", "boot").ends(0);
    let entries = machine.ask("ls /boot/loader/entries | grep -v specialisation");
    assert_eq!(
        entries,
        "nixos-candidate-generation-1.conf\nnixos-generation-3.conf\nnixos-generation-4.conf"
    );
    assert_eq!(default(), "nixos-generation-4.conf");
}

#[test]
fn files_and_users_come_and_go_with_the_configuration() {
    let machine = Machine::with(&["plain", "files"]);
    let name = machine.ask("hostname");
    machine.switch("plain", "test").ends(0);
    assert_eq!(machine.ask("hostname"), name, "a system without a name leaves the machine's alone");
    machine.switch("files", "test").ends(0);
    assert_eq!(
        machine.ask("cat /etc/linked/file; readlink /etc/linked/file"),
        "linked/etc/static/linked/file"
    );
    assert_eq!(
        machine.ask("stat -c '%F %a %U %G' /etc/copied; cat /etc/copied"),
        "regular file 640 nobody adm\ncopied"
    );
    assert_eq!(machine.ask("stat -c %a /run/made"), "750", "tmpfiles.d is obeyed at a switch");
    assert_eq!(
        machine.ask("id -nG anna; stat -c '%a %U' /home/anna; cat /etc/ssh/authorized_keys.d/anna; hostname"),
        "users wheel\n700 anna\nssh-ed25519 AAAA anna\nnamed"
    );
    machine.switch("plain", "test").ends(0).says("removing obsolete file ‘/etc/copied’...");
    machine.run("ls /etc/copied /etc/linked/file /etc/ssh/authorized_keys.d/anna").ends(2);
    machine.run("id anna").ends(1);
    assert_eq!(machine.ask("stat -c %a /home/anna"), "700", "a home outlives its user");
}

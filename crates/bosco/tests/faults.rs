//! What is wrong with a fleet, a user or a store is told for what it is, and does no harm to a host.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::follow::Apply;
use common::{at_terminal, bosco, is_sound, stands};
use testbed::fleet::{Fleet, sample};
use testbed::{Lab, LabSpec, Operator};

/// The plain fleet's host1, with the deployment options and more of its own.
fn write_host1(fleet: &Fleet<'_>, more: &str) {
    let module = common::repository().join("nix/modules/deployment.nix");
    fleet.write("deployment.nix", &fs::read_to_string(module).unwrap()).unwrap();
    let host = format!(
        "{{ pkgs, lib, ... }}: {{ imports = [ ./deployment.nix ]; networking.hostName = \"host1\"; {more} }}"
    );
    fleet.write("host1.nix", &host).unwrap();
}

/// A file `/etc/NAME` of so many random bytes, in a store path of its own.
fn payload(name: &str, bytes: usize) -> String {
    format!(
        "environment.etc.\"{name}\".source = pkgs.runCommand \"{name}\" {{ }} \"head -c {bytes} /dev/urandom > $out\";"
    )
}

/// The store path of this name, where it really lies in the operator's store.
fn in_store(operator: &Operator, name: &str) -> PathBuf {
    let store = operator.store().join("nix/store");
    let mut found = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().ends_with(&format!("-{name}"));
    found.find(is_it).unwrap_or_else(|| panic!("no {name} in {}", store.display()))
}

#[test]
fn two_hosts_that_are_the_same_machine_are_refused_before_any_is_touched() {
    // No machine is there: to be reached at all would be wrong.
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    write_host1(&fleet, "deployment.targetHost = \"host2\";");
    bosco(&operator, &fleet, &["apply"]).exits(3).says("host1").says("host2").says("the same");
    // By themselves each of them can be deployed; here nobody answers.
    bosco(&operator, &fleet, &["apply", "--on", "host2"]).exits(5);
}

#[test]
fn two_definitions_of_one_host_are_told_with_file_and_line() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let flake = fs::read_to_string(fleet.path().join("flake.nix")).unwrap();
    let twice = flake.replace("nixosConfigurations.host2", "nixosConfigurations.host1");
    let line = 1 + twice.lines().position(|line| line.contains("nixosConfigurations.host1")).unwrap();
    fleet.write("flake.nix", &twice).unwrap();
    let said = bosco(&operator, &fleet, &["apply"]);
    assert!(matches!(said.code, 2 | 3), "it is a mistake in the fleet, not {}: {}", said.code, said.err);
    said.says("attribute 'nixosConfigurations.host1' already defined at").says(&format!("flake.nix:{line}:"));
}

#[test]
fn a_user_who_would_need_a_password_to_become_root_is_told() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    host.ssh_ok(
        "useradd --create-home --shell /bin/sh deploy; echo deploy:secret | chpasswd; \
         cp -r /root/.ssh /home/deploy/; chown -R deploy: /home/deploy; \
         echo 'deploy ALL=(ALL) ALL' > /etc/sudoers.d/deploy",
    )
    .unwrap();
    let start = stands(host);
    write_host1(&fleet, "deployment.targetUser = \"deploy\";");
    bosco(operator, &fleet, &["apply", "--on", "host1"])
        .exits(4)
        .says("this user can't become root there")
        .says("password")
        .says("from a terminal, where bosco asks");
    bosco(operator, &fleet, &["status", "--on", "host1"]).exits(4).says("no access");

    // At a terminal it is asked for.
    let question = "password of sudo on deploy@";
    let wrong = [(question, "no\n"), ("that is not the password", "nor this\n"), (question, "again\n")];
    at_terminal(operator, &fleet, "apply --on host1", &wrong)
        .exits(4)
        .says("`sudo` there does not take the password");
    at_terminal(operator, &fleet, "apply --on host1", &[(question, "\n")]).exits(4).says("was not given");

    // A command that is not there, and one that does not make anybody root.
    for (command, told) in [("doas", "not found"), ("env", "it runs commands as user 1")] {
        let option = format!("deployment.privilegeEscalationCommand = [ \"{command}\" ];");
        write_host1(&fleet, &format!("deployment.targetUser = \"deploy\"; {option}"));
        bosco(operator, &fleet, &["apply", "--on", "host1"])
            .exits(4)
            .says("this user can't become root there")
            .says(told)
            .says("deployment.privilegeEscalationCommand");
    }
    bosco(operator, &fleet, &["exec", "host1", "--", "touch /tmp/ran"])
        .exits(4)
        .says("this user can't become root there");
    host.ssh_ok("! [ -e /tmp/ran ]").unwrap();
    assert_eq!(stands(host), start, "a user who is not root has changed what runs or boots");
}

/// Spoils a path of a store, and gives what puts it right again.
fn spoil(path: &Path, how: &str) -> impl FnOnce() + use<> {
    let (path, good) = (path.to_owned(), fs::read(path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    match how {
        "altered" => {
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 1;
            fs::write(&path, bad).unwrap();
        }
        "cut short" => fs::write(&path, &good[..good.len() / 2]).unwrap(),
        "emptied" => fs::write(&path, "").unwrap(),
        _ => fs::remove_file(&path).unwrap(),
    }
    move || {
        fs::write(&path, good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    }
}

#[test]
fn a_damaged_path_in_the_operators_store_is_told_and_never_reaches_a_host() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    for (round, how) in ["altered", "cut short", "emptied", "removed"].into_iter().enumerate() {
        let name = format!("payload{round}");
        // What comes before and behind it in the stream is sound.
        let others = [format!("before{round}"), format!("behind{round}")].map(|name| payload(&name, 300_000));
        write_host1(&fleet, &format!("{} {}", payload(&name, 3_000_000), others.concat()));
        bosco(operator, &fleet, &["build", "--on", "host1"]).exits(0);
        let before = stands(host);
        let mend = spoil(&in_store(operator, &name), how);

        bosco(operator, &fleet, &["apply", "--on", "host1"])
            .exits(4)
            .says("host1: failed while copying")
            .says(&format!("-{name}"));
        assert_eq!(stands(host), before, "a path that was {how} was activated");
        let taken = format!(
            "for path in /nix/store/*-{name}; do nix-store --check-validity $path && echo $path; done; true"
        );
        assert_eq!(host.ssh_ok(&taken).unwrap(), "", "the host has taken a path that was {how}");
        is_sound(host);

        mend();
        bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(0).says("1 committed: host1");
        assert_eq!(host.ssh_ok(&format!("wc -c < /etc/{name}")).unwrap().trim(), "3000000");
        is_sound(host);
    }
}

#[test]
fn a_damaged_path_in_the_operators_store_is_told_with_where_it_is_and_how_to_mend_it() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    write_host1(&fleet, &payload("payload", 3_000_000));
    bosco(lab.operator(), &fleet, &["build", "--on", "host1"]).exits(0);
    let _mend = spoil(&in_store(lab.operator(), "payload"), "altered");
    bosco(lab.operator(), &fleet, &["apply", "--on", "host1"])
        .exits(4)
        .says("the store here is damaged")
        .says("hint:")
        .says("nix-store --verify --check-contents");
}

#[test]
fn a_disk_that_fills_in_mid_copy_is_told_and_the_hosts_store_is_sound() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(200)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let parts: String = (0..8).map(|part| payload(&format!("part{part}"), 700_000)).collect();
    write_host1(&fleet, &parts);
    let before = stands(host);
    // Slow enough that it can be caught in the middle.
    host.bandwidth(10_000).unwrap();
    let mut apply = Apply::start(operator, &fleet, &["--on", "host1"]);
    apply.until_half_copied("host1");
    host.fill_disk().unwrap();
    let came = apply.ends().exits(4).says("host1", "nix-collect-garbage");
    assert_eq!(came.outcome("host1")["stage"], "copy", "{}", came.outcome("host1"));
    host.heal().unwrap();
    host.free_disk().unwrap();
    assert_eq!(stands(host), before);
    is_sound(host);
    bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(0).says("1 committed: host1");
    assert_eq!(host.ssh_ok("cat /etc/part* | wc -c").unwrap().trim(), "5600000");
    is_sound(host);
}

//! A fleet is deployed to real machines, and what goes wrong is told with the host and what to do.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use common::{at_terminal, bosco, command, json, stands, state, until_activating};
use serde_json::Value;
use testbed::fleet::sample;
use testbed::{Host, Lab, LabSpec};

/// A lab with so many hosts.
fn lab(hosts: usize) -> Lab {
    Lab::up(&LabSpec::new(hosts)).unwrap()
}

/// What the plain fleet's host1 is, with more of its own.
fn host1(more: &str) -> String {
    format!("{{ pkgs, lib, ... }}: {{ networking.hostName = \"host1\"; {more} }}")
}

fn greeting(host: &Host) -> String {
    host.ssh_ok("cat /etc/greeting 2>/dev/null || echo none").unwrap().trim().to_owned()
}

/// How many connections sshd has let in.
fn connections(host: &Host) -> usize {
    host.ssh_ok("journalctl --quiet --unit sshd --output cat | grep -c 'Accepted publickey'")
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_fleet_is_deployed_then_left_alone_then_brought_to_what_changed() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, one, two) = (lab.operator(), lab.host("host1").unwrap(), lab.host("host2").unwrap());
    assert_eq!(state(operator, &fleet, "host1"), "pending");
    bosco(operator, &fleet, &["apply"]).exits(0).says("2 committed: host1, host2");
    assert_eq!((greeting(one), greeting(two)), ("one".into(), "one".into()));
    assert_eq!(one.ssh_ok("systemctl is-active worker").unwrap().trim(), "active");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");

    bosco(operator, &fleet, &["apply"]).exits(0).says("2 up to date: host1, host2");

    fleet.write("host1.nix", &host1("environment.etc.greeting.text = \"two\";")).unwrap();
    assert_eq!(state(operator, &fleet, "host1"), "pending");
    bosco(operator, &fleet, &["apply"]).exits(0).says("1 committed: host1").says("1 up to date: host2");
    assert_eq!((greeting(one), greeting(two)), ("two".into(), "one".into()));

    one.power_cut(testbed::Unsynced::Kept).unwrap();
    one.boot().unwrap();
    one.wait_for_boot(Duration::from_secs(60)).unwrap();
    assert_eq!(greeting(one), "two", "the boot loader's default is what was committed");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

#[test]
fn a_hive_is_deployed_unchanged() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "hive").unwrap();
    bosco(lab.operator(), &fleet, &["apply"])
        .exits(0)
        .says("2 committed: host1, host2")
        .says("itself only: laptop");
    assert_eq!(greeting(lab.host("host2").unwrap()), "hello from the hive");
    assert_eq!(state(lab.operator(), &fleet, "laptop"), "local-only");
}

#[test]
fn a_no_op_is_one_connection_and_a_change_is_two() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let host = lab.host("host1").unwrap();
    let apply = || bosco(lab.operator(), &fleet, &["apply", "--on", "host1"]).exits(0);
    // Each look at the journal is a connection as well.
    let before = connections(host);
    apply().says("committed");
    // One that asks, delivers and activates, and a fresh one that proves that the host can be reached.
    assert_eq!(connections(host), before + 3, "a change took more than two connections");
    apply().says("up to date");
    assert_eq!(connections(host), before + 5, "a no-op took more than one connection");
}

#[test]
fn connections_that_the_operators_ssh_shares_are_used_hold_nothing_up_and_prove_nothing() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let dir = operator.dir().join("shared");
    std::fs::create_dir(&dir).unwrap();
    let shares =
        format!("Host *\n  ControlMaster auto\n  ControlPersist 60\n  ControlPath {}/%n\n", dir.display());
    let own = std::fs::read_to_string(operator.ssh_config()).unwrap();
    std::fs::write(dir.join("config"), shares + &own).unwrap();
    let apply = || {
        let mut apply = command(operator, &fleet, &["apply", "--on", "host1"]);
        common::Said::of(&apply.env("SSH_CONFIG_FILE", dir.join("config")).output().unwrap()).exits(0)
    };
    let before = connections(host);
    let started = std::time::Instant::now();
    apply().says("committed");
    assert!(started.elapsed() < Duration::from_secs(50), "it waited for what stays: {:?}", started.elapsed());
    // The one that stays, and a fresh one beside it.
    assert_eq!(connections(host), before + 3);
    apply().says("up to date");
    assert_eq!(connections(host), before + 4, "what is shared was not used");
    let mut end = operator.command("ssh");
    end.arg("-F").arg(dir.join("config")).args(["-O", "exit", "host1"]);
    assert!(end.status().unwrap().success(), "nothing was shared");
}

#[test]
fn each_goal_goes_as_far_as_it_says() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let apply = |goal: &str| bosco(operator, &fleet, &["apply", "--on", "host1", "--goal", goal]).exits(0);
    let start = stands(host);

    apply("build").says("host1: built /nix/store/");
    assert_eq!(json(operator, &fleet, &["status", "--on", "host1"])[0]["observed"]["hasToplevel"], false);
    apply("push").says("pushed");
    apply("push").says("there already");
    apply("dry-activate").says("nothing was changed").says("would activate the configuration");
    assert_eq!(stands(host), start, "neither build, push nor dry-activate changes what runs or boots");
    assert_eq!(greeting(host), "none");

    apply("test").says("activated until the next boot");
    assert_eq!(greeting(host), "one");
    assert_eq!(state(operator, &fleet, "host1"), "not-committed");
    host.power_cut(testbed::Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(Duration::from_secs(60)).unwrap();
    assert_eq!(stands(host), start, "a test is gone after a boot");

    apply("boot").says("from the next boot on");
    assert_eq!(greeting(host), "none", "boot does not activate");
    assert_eq!(state(operator, &fleet, "host1"), "boot-pending");
    apply("boot").says("boots it already");
    host.power_cut(testbed::Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(Duration::from_secs(60)).unwrap();
    assert_eq!(greeting(host), "one");
    apply("switch").says("up to date");
}

#[test]
fn what_failed_is_told_and_taken_back() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let apply = || bosco(operator, &fleet, &["apply", "--on", "host1"]);
    let start = stands(host);

    let broken = "systemd.services.broken = { wantedBy = [ \"multi-user.target\" ]; \
                  serviceConfig = { Type = \"oneshot\"; ExecStart = \"${pkgs.busybox}/bin/false\"; }; };";
    fleet.write("host1.nix", &host1(broken)).unwrap();
    apply()
        .exits(4)
        .says("reverted: broken.service has failed; it runs generation 1 again")
        .says("broken.service: Main process exited, code=exited, status=1/FAILURE")
        .says("hint:")
        .says("/nix/var/bosco/");
    assert_eq!(stands(host), start, "what it runs or boots has changed");
    assert_eq!(state(operator, &fleet, "host1"), "reverted");
    apply().exits(4).says("refused: it is in quarantine: broken.service has failed").says("--again");
    bosco(operator, &fleet, &["apply", "--on", "host1", "--again"]).exits(4).says("reverted: broken.service");

    fleet
        .write("host1.nix", &host1("system.activationScripts.oops = \"echo out of ducks; false\";"))
        .unwrap();
    apply().exits(4).says("reverted: its activation script failed").says("out of ducks");
    assert_eq!(stands(host), start, "what it runs or boots has changed");

    fleet.write("host1.nix", &host1("")).unwrap();
    host.ssh_ok("mkdir -p /run/nixos; systemd-run --quiet --unit holder --service-type=notify --property=NotifyAccess=all \
                 flock /run/nixos/switch-to-configuration.lock sh -c 'systemd-notify --ready; exec sleep 1000'").unwrap();
    apply().exits(4).says("refused: another program is switching that host").says("lock");
    assert_eq!(stands(host), start, "what it runs or boots has changed");
    host.ssh_ok("systemctl stop holder").unwrap();
    apply().exits(0).says("committed");
}

#[test]
fn an_older_init_interface_is_committed_for_the_next_boot() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let other = "system.extraSystemBuilderCmds = \"rm -f $out/init-interface-version; echo -n systemd 3 > $out/init-interface-version\";";
    fleet.write("host1.nix", &host1(other)).unwrap();
    bosco(operator, &fleet, &["apply", "--on", "host1"])
        .exits(0)
        .says("committed, unproven until it has booted; reboot needed");
    assert_eq!(greeting(host), "none", "it must not be activated on the running system");
    host.power_cut(testbed::Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(Duration::from_secs(60)).unwrap();
    assert_eq!(greeting(host), "one");
}

#[test]
fn a_host_that_is_away_is_skipped_and_the_others_go_on() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "plain").unwrap();
    lab.host("host2").unwrap().power_cut(testbed::Unsynced::Kept).unwrap();
    bosco(lab.operator(), &fleet, &["apply"])
        .exits(5)
        .says("1 committed: host1")
        .says("could not be reached: host2")
        .says("host2: skipped: ")
        .says("hint:");
    assert_eq!(state(lab.operator(), &fleet, "host2"), "offline");
}

#[test]
fn nothing_is_built_for_a_host_that_is_away() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let broken = host1("environment.etc.x.source = pkgs.runCommand \"x\" { } \"exit 1\";");
    fleet.write("host1.nix", &broken).unwrap();
    lab.host("host1").unwrap().power_cut(testbed::Unsynced::Kept).unwrap();
    bosco(lab.operator(), &fleet, &["apply"]).exits(5).says("1 committed: host2").says("host1: skipped: ");
}

#[test]
fn trouble_with_a_connection_is_told_for_what_it_is() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let options = |options: &str| {
        let module = format!(
            "options.deployment = lib.mkOption {{ type = lib.types.attrs; default = {{ {options} }}; }};"
        );
        fleet.write("host1.nix", &format!("{{ lib, ... }}: {{ {module} }}")).unwrap();
    };
    let apply = || bosco(operator, &fleet, &["apply", "--on", "host1"]);

    options("targetHost = \"no-such-host.invalid\";");
    apply().exits(5).says("its name can't be resolved").says("deployment.targetHost");
    options("targetPort = 2222;");
    apply().exits(5).says("it refuses the connection").says("deployment.targetPort");
    options("targetUser = \"nobody\";");
    apply().exits(4).says("it does not let this user in").says("ssh nobody@host1");
    options("sshOptions = [ \"-o\" \"UserKnownHostsFile=/dev/null\" \"-o\" \"StrictHostKeyChecking=yes\" ];");
    apply().exits(4).says("its host key is not known").says("compare the fingerprint");

    options("");
    host.ssh_ok(
        "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; \
         systemctl restart sshd",
    )
    .unwrap();
    apply().exits(4).says("its host key is not the one that is known").says("ssh-keygen -R");
}

#[test]
fn a_user_who_is_not_root_becomes_root_by_sudo() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    for host in lab.hosts() {
        host.ssh_ok(
            "useradd --create-home --shell /bin/sh deploy; cp -r /root/.ssh /home/deploy/; chown -R deploy: /home/deploy",
        )
        .unwrap();
    }
    let module = std::fs::read_to_string(common::repository().join("nix/modules/deployment.nix")).unwrap();
    fleet.write("deployment.nix", &module).unwrap();
    let plain = std::fs::read_to_string(fleet.path().join("common.nix")).unwrap();
    fleet.write("plain.nix", &plain).unwrap();
    let common = "{ imports = [ ./plain.nix ./deployment.nix ]; deployment.targetUser = \"deploy\"; }";
    fleet.write("common.nix", common).unwrap();
    let apply = || bosco(operator, &fleet, &["apply", "--on", "host1"]);
    apply().exits(4).says("this user can't become root there").says("privilegeEscalationCommand");
    host.ssh_ok("echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy").unwrap();
    apply().exits(0).says("committed");
    assert_eq!(greeting(host), "one");

    // A password is asked for once, for all hosts and all their connections, and shown nowhere.
    for host in lab.hosts() {
        host.ssh_ok("echo 'deploy ALL=(ALL) ALL' > /etc/sudoers.d/deploy; echo deploy:geheimnis | chpasswd")
            .unwrap();
    }
    fleet.write("plain.nix", &plain.replace("one", "two")).unwrap();
    fleet.commit().unwrap();
    let once = [("password of sudo on deploy@", "geheimnis\n")];
    at_terminal(operator, &fleet, "apply --yes", &once).exits(0).says("committed").does_not_say("geheimnis");
    for host in lab.hosts() {
        assert_eq!(greeting(host), "two");
        let log = host.ssh_ok("cat /nix/var/bosco/*.log; journalctl -o export | cat -v").unwrap();
        assert!(!log.contains("geheimnis"), "a log of {} has the password", host.name());
    }
}

#[test]
fn a_host_that_does_not_answer_holds_nobody_up() {
    let lab = lab(2);
    let fleet = sample(lab.operator(), "plain").unwrap();
    lab.host("host2").unwrap().cut().unwrap();
    let said = bosco(lab.operator(), &fleet, &["apply", "--json"]).exits(5);
    let events = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = events.collect();
    let at = |host: &str, is: &dyn Fn(&Value) -> bool| {
        let found = events.iter().position(|event| event["host"] == host && is(event));
        found.unwrap_or_else(|| panic!("{host} never came to it: {events:?}"))
    };
    let activates = at("host1", &|event| event["event"] == "activating");
    let given_up = at("host2", &|event| event["event"] == "ended");
    assert!(activates < given_up, "host1 had to wait until host2 was given up: {events:?}");
    let ended = &events[at("host1", &|event| event["event"] == "ended")];
    assert_eq!(ended["outcome"]["outcome"], "activated", "{ended}");
}

#[test]
fn a_host_that_never_answers_is_given_up_in_time() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    lab.host("host1").unwrap().cut().unwrap();
    let started = std::time::Instant::now();
    bosco(lab.operator(), &fleet, &["apply", "--on", "host1"]).exits(5).says("host1: skipped: ");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
}

#[test]
fn a_machine_that_can_not_be_deployed_to_is_refused_before_anything_is_touched() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let apply = || bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(4);
    host.ssh_ok("mv /etc/NIXOS /etc/NIXOS.away; cp /etc/os-release /tmp; rm /etc/os-release; echo ID=debian > /etc/os-release").unwrap();
    apply().says("it is not NixOS").says("hint:");
    assert_eq!(state(operator, &fleet, "host1"), "unfit");
    host.ssh_ok("mv /etc/NIXOS.away /etc/NIXOS; mount --bind /dev/null $(command -v nix-store)").unwrap();
    apply().says("no Nix was found there");
    host.ssh_ok("umount $(command -v nix-store)").unwrap();

    let arm = "nixpkgs.hostPlatform = lib.mkForce \"aarch64-linux\";";
    fleet.write("host1.nix", &host1(arm)).unwrap();
    fleet
        .write(
            "flake.nix",
            &std::fs::read_to_string(fleet.path().join("flake.nix"))
                .unwrap()
                .replace("x86_64-linux", "aarch64-linux"),
        )
        .unwrap();
    apply().says("it is x86_64-linux, its configuration is for aarch64-linux").says("hostPlatform");
}

#[test]
fn of_two_operators_at_once_one_wins_and_the_other_is_told() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    // The first activation waits for a word, so that the second one meets it.
    host.ssh_ok("mkfifo /run/go").unwrap();
    fleet
        .write("host1.nix", &host1("system.activationScripts.wait = \"read word < /run/go || true\";"))
        .unwrap();
    let mut first = command(operator, &fleet, &["apply", "--on", "host1", "--json"]);
    let first =
        first.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    until_activating(host);
    bosco(operator, &fleet, &["apply", "--on", "host1"])
        .exits(4)
        .says("an activation is under way there, by ")
        .says("switching, begun ")
        .says("nixos-system-host1");
    assert_eq!(state(operator, &fleet, "host1"), "updating");
    host.ssh_ok("echo go > /run/go").unwrap();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stdout));
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

#[test]
fn a_disk_that_is_full_is_told_and_nothing_is_activated() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(300)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let host = lab.host("host1").unwrap();
    let start = stands(host);
    let large = "environment.etc.large.source = pkgs.runCommand \"large\" { } \"head -c 20000000 /dev/urandom > $out\";";
    fleet.write("host1.nix", &host1(large)).unwrap();
    host.fill_disk().unwrap();
    bosco(lab.operator(), &fleet, &["apply", "--on", "host1"])
        .exits(4)
        .says("No space left")
        .says("nix-collect-garbage");
    host.free_disk().unwrap();
    assert_eq!(stands(host), start);
    bosco(lab.operator(), &fleet, &["apply", "--on", "host1"]).exits(0).says("committed");
}

#[test]
fn names_with_options_in_them_reach_no_shell() {
    let lab = lab(1);
    let fleet = sample(lab.operator(), "plain").unwrap();
    let options = "options.deployment = lib.mkOption { type = lib.types.attrs; default = { targetHost = \"-oProxyCommand=touch pwned\"; }; };";
    fleet.write("host1.nix", &format!("{{ lib, ... }}: {{ {options} }}")).unwrap();
    let said = bosco(lab.operator(), &fleet, &["apply", "--on", "host1"]);
    assert_ne!(said.code, 0);
    assert!(!fleet.path().join("pwned").exists(), "ssh took a host's name for an option");
}

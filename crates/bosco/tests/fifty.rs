//! Many hosts at once: a change goes to all, and the few that can't take it are told apart from the rest.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.
#![allow(clippy::print_stderr)] // What each part takes, for who asks with `--nocapture`.

mod common;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::follow::Apply;
use common::{Said, bosco};
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec, Operator, Unsynced};

/// The hosts that can't take the change.
const OFF: &str = "host7";
const FULL: &str = "host23";
const BROKEN: &str = "host42";

/// How many lines an apply may write for each host where nobody is at a terminal.
const LINES: usize = 8;
/// How many hosts are asked at once what became of them.
const ASKED: usize = 8;

/// A fleet of so many hosts that differ in their names.
fn fleet(operator: &Operator, hosts: usize) -> Fleet<'_> {
    let fleet = create(operator, "many").unwrap();
    let flake = format!(
        r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = {{ self, nixpkgs }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs (map (n: "host${{toString n}}") (nixpkgs.lib.range 1 {hosts})) (
      name: nixpkgs.lib.nixosSystem {{
        system = "x86_64-linux";
        modules = [ ./common.nix {{ networking.hostName = name; }} ];
      }}
    );
  }};
}}
"#
    );
    fleet.write("flake.nix", &flake).unwrap();
    fleet
}

/// Changes what all hosts have: a file, and a service that does not start where a file of the host's own is in the way.
fn change(fleet: &Fleet<'_>, greeting: &str) {
    let common = format!(
        r#"{{ pkgs, ... }}: {{
  services.openssh.enable = true;
  environment.etc.greeting.text = "{greeting}";
  systemd.services.picky = {{
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {{
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${{pkgs.busybox}}/bin/test ! -e /root/in-the-way-of-{greeting}";
    }};
  }};
  system.stateVersion = "26.05";
}}
"#
    );
    fleet.write("common.nix", &common).unwrap();
}

/// Tells how long parts of a test took, on the standard error stream: `--nocapture` shows it.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self, what: &str) {
        eprintln!("{what}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// What a host greets with, how many systems of `runs`, `profile` and `boots` it has, and how `picky` is.
fn stands(host: &Host) -> String {
    let script = "cat /etc/greeting; echo; { readlink /run/current-system; \
                  readlink -f /nix/var/nix/profiles/system; \
                  entry=$(sed -n 's/^default *//p' /boot/loader/loader.conf); \
                  grep -o '/nix/store/[^/ ]*-nixos-system-[^/ ]*' \"/boot/loader/entries/${entry%.conf}.conf\"; } \
                  | sort -u | wc -l; systemctl is-active picky";
    let output = host.ssh(script).unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks hosts side by side, and names those that do not stand as they should.
fn not_as(hosts: &[&Host], expected: &str) -> String {
    let next = AtomicUsize::new(0);
    let ask = || {
        let mut wrong = String::new();
        while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = stands(host);
            if found != expected {
                writeln!(wrong, "{}: {found}", host.name()).unwrap();
            }
        }
        wrong
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..ASKED).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    })
}

/// Fails unless what was said is calm: a bounded number of lines for each host.
#[track_caller]
fn calm(said: &Said, hosts: usize) {
    let lines = said.err.lines().count() + said.out.lines().count();
    assert!(lines <= LINES * hosts, "{lines} lines for {hosts} hosts:\n{}\n{}", said.out, said.err);
    let longest = said.out.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 400, "a line of the summary has {longest} characters:\n{}", said.out);
}

#[test]
fn of_fifty_hosts_the_three_that_can_not_take_a_change_are_told_and_all_others_have_it() {
    const HOSTS: usize = 50;
    let mut clock = Clock::start();
    let lab = Lab::up(&LabSpec::new(HOSTS).disk_of(FULL, 128)).unwrap();
    clock.lap("lab up");
    let operator = lab.operator();
    let fleet = fleet(operator, HOSTS);
    change(&fleet, "one");
    let said = bosco(operator, &fleet, &["apply"]).exits(0).says("50 committed: ");
    calm(&said, HOSTS);
    clock.lap("first apply");

    lab.host(BROKEN).unwrap().ssh_ok("touch /root/in-the-way-of-two").unwrap();
    lab.host(FULL).unwrap().fill_disk().unwrap();
    lab.host(OFF).unwrap().power_cut(Unsynced::Kept).unwrap();
    change(&fleet, "two");
    let came = Apply::start(operator, &fleet, &[])
        .ends()
        .exits(4)
        .says(FULL, "nix-collect-garbage")
        .says(BROKEN, "picky.service");
    assert_eq!(came.outcome(OFF)["outcome"], "offline");
    assert_eq!(came.outcome(FULL)["stage"], "copy", "{}", came.outcome(FULL));
    assert_eq!(came.outcome(BROKEN)["outcome"], "reverted", "{}", came.outcome(BROKEN));
    let hosts = came.summary()["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), HOSTS);
    let activated = hosts.iter().filter(|host| host["outcome"] == "activated").count();
    assert_eq!(activated, 47, "{}", came.summary());
    clock.lap("the change");

    let others: Vec<_> =
        lab.hosts().iter().filter(|host| ![OFF, FULL, BROKEN].contains(&host.name())).collect();
    assert_eq!(others.len(), 47);
    let wrong = not_as(&others, "two 1 active");
    assert!(wrong.is_empty(), "these hosts have not got the change, or not wholly:\n{wrong}");
    lab.host(FULL).unwrap().free_disk().unwrap();
    assert_eq!(stands(lab.host(FULL).unwrap()), "one 1 active", "{FULL} had no room, and was changed");
    let broken = stands(lab.host(BROKEN).unwrap());
    assert!(broken.starts_with("one 1 "), "{BROKEN} has not gone back: {broken}");
    lab.host(FULL).unwrap().fill_disk().unwrap();
    clock.lap("asking the hosts");

    // The same in words; for these and one that is well, as all the others would say nothing new.
    bosco(operator, &fleet, &["apply", "--on", &format!("host1,{OFF},{FULL},{BROKEN}")])
        .exits(4)
        .says("1 up to date: host1")
        .says(&format!("1 skipped, could not be reached: {OFF}"))
        .says(&format!("1 failed while copying: {FULL}"))
        .says(&format!("1 refused: {BROKEN}"))
        .says(&format!("{OFF}: skipped: "))
        .says(&format!("{FULL}: "))
        .says(&format!("{BROKEN}: refused: it is in quarantine: picky.service has failed"));
    clock.lap("the three again, in words");

    lab.host(FULL).unwrap().free_disk().unwrap();
    lab.host(BROKEN).unwrap().ssh_ok("rm /root/in-the-way-of-two").unwrap();
    lab.host(OFF).unwrap().boot().unwrap();
    lab.host(OFF).unwrap().wait_for_boot(Duration::from_secs(60)).unwrap();
    let mended = format!("{OFF},{FULL},{BROKEN}");
    // The same system that has failed on one of them, as that was not its own fault.
    bosco(operator, &fleet, &["apply", "--again", "--on", &mended]).exits(0).says("3 committed: ");
    let mended = [OFF, FULL, BROKEN].map(|host| lab.host(host).unwrap());
    let wrong = not_as(&mended, "two 1 active");
    assert!(wrong.is_empty(), "after what was in the way has been mended:\n{wrong}");
    clock.lap("the three, mended");
    drop(lab);
    clock.lap("lab down");
}

#[test]
#[ignore = "takes long: two hundred machines"]
fn two_hundred_hosts_are_deployed_changed_and_left_alone() {
    const HOSTS: usize = 200;
    let mut clock = Clock::start();
    let lab = Lab::up(&LabSpec::new(HOSTS)).unwrap();
    clock.lap("lab up");
    let operator = lab.operator();
    let fleet = fleet(operator, HOSTS);
    let hosts: Vec<_> = lab.hosts().iter().collect();
    for (greeting, what) in [("one", "deploy"), ("two", "change")] {
        change(&fleet, greeting);
        let said = bosco(operator, &fleet, &["apply"]).exits(0).says("200 committed: ");
        clock.lap(what);
        calm(&said, HOSTS);
        let wrong = not_as(&hosts, &format!("{greeting} 1 active"));
        assert!(wrong.is_empty(), "after the {what}:\n{wrong}");
        clock.lap("asking the hosts");
    }
    let said = bosco(operator, &fleet, &["apply"]).exits(0).says("200 up to date: ");
    clock.lap("no-op");
    calm(&said, HOSTS);
    drop(lab);
    clock.lap("lab down");
}

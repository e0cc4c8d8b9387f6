//! Labs come up, stay apart, and leave nothing behind.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly, in their helpers too")]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::{Guest, Lab, LabSpec};

const SOON: Duration = Duration::from_secs(10);

/// What there can be of a lab on this machine.
fn traces(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let roots = ["/run/netns", "/etc/netns", "/run/systemd/nspawn/propagate"];
    let roots = roots.iter().map(PathBuf::from).chain([testbed::cache::dir().join("labs")]);
    let groups =
        ["", "unified", "systemd"].map(|kind| Path::new("/sys/fs/cgroup").join(kind).join("bosco-testbed"));
    for folder in roots.chain(groups) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(id)));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(id)).map(PathBuf::from));
    found
}

#[test]
fn a_fleet_comes_up_is_reached_by_name_and_leaves_nothing_behind() {
    let lab = Lab::up(&LabSpec::named(["web-1", "db"])).unwrap();
    for host in lab.hosts() {
        host.wait_for_boot(SOON * 3).unwrap();
        assert_eq!(host.ssh_ok("hostname").unwrap().trim(), host.name());
        host.ssh_ok("test -e /etc/NIXOS && test -x /run/current-system/bin/switch-to-configuration").unwrap();
        assert!(host.public_key().unwrap().starts_with("ssh-ed25519 "));
    }
    assert_eq!(lab.host("db").unwrap().address(), "10.77.1.2".parse::<IpAddr>().unwrap());
    assert!(lab.host("web-2").unwrap_err().to_string().contains("web-1, db"));
    let id = lab.id().to_owned();
    assert!(!traces(&id).is_empty());
    lab.down().unwrap();
    assert_eq!(traces(&id), Vec::<PathBuf>::new());
}

#[test]
fn two_labs_side_by_side_do_not_meet() {
    let (one, other) = (Lab::up(&LabSpec::new(1)).unwrap(), Lab::up(&LabSpec::new(2)).unwrap());
    one.host("host1").unwrap().ssh_ok("echo one > /root/whose").unwrap();
    let whose = other.host("host1").unwrap().ssh("cat /root/whose").unwrap();
    assert!(!whose.status.success(), "the other lab's host has this lab's file");
    assert!(one.hosts()[0].ssh("</dev/tcp/10.77.1.2/22").unwrap().status.code() != Some(0));

    // Neither a sweep nor the other's end is any of its business.
    testbed::sweep().unwrap();
    drop(other);
    assert_eq!(one.hosts()[0].ssh_ok("cat /root/whose").unwrap(), "one\n");
}

/// Not a test of its own: the run that the next test kills.
#[test]
#[ignore = "is run by another test"]
fn a_run_that_will_be_killed() {
    let Some(file) = std::env::var_os("TELL_THE_LAB") else { return };
    let lab = Lab::up(&LabSpec::new(1).own_disk(128)).unwrap();
    lab.hosts()[0].delay(Duration::from_millis(1)).unwrap();
    let mut stuck = lab.operator().command("sleep");
    let mut stuck = stuck.arg("600").spawn().unwrap();
    std::fs::write(file, lab.id()).unwrap();
    stuck.wait().unwrap();
}

#[test]
fn the_lab_of_a_killed_run_is_swept_by_the_next() {
    // What a first lab takes long to make is there before the time counts.
    Lab::up(&LabSpec::new(1)).unwrap();
    let file = std::env::temp_dir().join(format!("bosco-testbed-{}", std::process::id()));
    let mut run = Command::new(std::env::current_exe().unwrap());
    run.args(["--ignored", "--exact", "a_run_that_will_be_killed"]).env("TELL_THE_LAB", &file);
    let mut run = run.spawn().unwrap();
    let start = Instant::now();
    let id = loop {
        match std::fs::read_to_string(&file) {
            Ok(id) if !id.is_empty() => break id,
            _ => assert!(start.elapsed() < SOON * 6, "the other run has not brought up its lab"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    std::fs::remove_file(file).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!traces(&id).is_empty(), "the lab went with its run");

    Lab::up(&LabSpec::new(1)).unwrap();
    assert_eq!(traces(&id), Vec::<PathBuf>::new());
}

#[test]
fn a_host_that_can_not_boot_is_told_with_its_console() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    host.power_cut(testbed::Unsynced::Kept).unwrap();
    std::fs::remove_dir_all(host.root().join("boot/loader")).unwrap();
    let error = host.boot().and_then(|()| host.wait_for_ssh(SOON)).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("no boot loader is installed"), "{error}");
    assert!(error.contains("console.log"), "{error}");
}

#[test]
fn a_machine_that_is_no_nixos_comes_up_too() {
    let lab = Lab::up(&LabSpec::new(1).guest(Guest::Debian)).unwrap();
    lab.hosts()[0].ssh_ok("nix --version && test ! -e /etc/NIXOS").unwrap();
}

#[test]
fn without_root_it_says_so() {
    // Where the checkout is, nobody else may be allowed to look.
    let copy = std::env::temp_dir().join(format!("bosco-lab-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_bosco-lab"), &copy).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["up", "1"]);
    let output = nobody.output().unwrap();
    std::fs::remove_file(copy).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("must be run by root"), "{said}");
}

#[test]
#[ignore = "takes long: fifty machines"]
fn fifty_hosts_come_up_together() {
    let lab = Lab::up(&LabSpec::new(50)).unwrap();
    assert_eq!(lab.hosts().len(), 50);
    assert_eq!(lab.host("host50").unwrap().ssh_ok("hostname").unwrap(), "host50\n");
}

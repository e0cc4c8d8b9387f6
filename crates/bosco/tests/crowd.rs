//! Others at the same host: a second operator, Nix's garbage collector, and a disk that has altered what was sent.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;

use common::case::{Case, Named, names, side_by_side};
use common::{is_sound, stands};
use testbed::{Lab, LabSpec};

/// How many cases are played at once.
const AT_ONCE: usize = 2;
/// A switch that waits until it may go on.
const WAITS_IN_THE_SWITCH: &str =
    "system.activationScripts.wait = \"until [ -e /root/go ]; do sleep 0.1; done\";";
/// A proof that does.
const WAITS_IN_THE_WINDOW: &str = "deployment.healthChecks.wait = {
    command = \"until [ -e /root/go ]; do sleep 0.1; done\"; timeout = 50;
};";

fn play(cases: &[Named]) {
    let lab = Lab::up(&LabSpec::named(names(cases))).unwrap();
    side_by_side(&lab, AT_ONCE, cases);
}

/// A file `/etc/NAME` of so many random bytes, in a store path of its own.
fn payload(name: &str, bytes: usize) -> String {
    format!(
        "environment.etc.\"{name}\".source = pkgs.runCommand \"{name}\" {{ }} \"head -c {bytes} /dev/urandom > $out\";"
    )
}

fn go(case: &Case<'_>) {
    fs::write(case.host.root().join("root/go"), "").unwrap();
}

/// While one operator is at a host, another is told who that is, since when, with what, and how far.
fn second_is_told(case: &Case<'_>, options: &str, state: &str, doing: &str) {
    case.own(options);
    let first = case.start();
    case.until_at(state);
    let toplevel = case.journal()["attempt"]["request"]["toplevel"].as_str().unwrap().to_owned();
    let by = case.journal()["attempt"]["request"]["by"].as_str().unwrap().to_owned();
    assert!(by.contains('@'), "{by:?} says nothing of who that is");
    case.apply()
        .exits(4)
        .says(&format!("refused: an activation is under way there, by {by}: {toplevel}"))
        .says(&format!("{doing}, begun "))
        .says(" s ago")
        .says("hint:");
    case.bosco(&["rollback"]).exits(4).says("refused:");
    case.bosco(&["reboot"]).exits(4).says("refused: an activation is under way there, by ");
    case.status().says("updating").says(&by).says(doing);
    go(case);
    first.ends().exits(0).says(case.name(), "activated");
    assert_eq!(case.state(), "up-to-date");
    case.left_nothing();
}

#[test]
fn a_second_operator_is_told_who_is_at_it_since_when_and_with_what() {
    play(&[
        ("second-in-the-switch", |case| {
            second_is_told(case, WAITS_IN_THE_SWITCH, "switching", "switching");
        }),
        ("second-in-the-window", |case| {
            second_is_told(case, WAITS_IN_THE_WINDOW, "proving", "proving the new system");
        }),
    ]);
}

#[test]
fn of_two_operators_who_begin_at_once_one_wins_and_nothing_is_done_twice() {
    play(&[("race", |case| {
        case.own(WAITS_IN_THE_SWITCH);
        // What takes long is done, so that both come to the host in the same moment.
        case.bosco(&["apply", "--goal", "push"]).exits(0);
        let operators: Vec<_> = (0..3).map(|_| case.start()).collect();
        case.until_at("switching");
        std::thread::scope(|scope| {
            let ends: Vec<_> = operators.into_iter().map(|apply| scope.spawn(|| apply.ends())).collect();
            // Those who have lost are told at once; the one who has won waits for the word.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while ends.iter().filter(|end| end.is_finished()).count() < 2 {
                assert!(std::time::Instant::now() < deadline, "the others are not told: {}", case.journal());
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            go(case);
            let came: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
            let outcome = |came: &common::follow::Came| came.outcome(case.name()).clone();
            let (won, lost): (Vec<_>, Vec<_>) =
                came.iter().map(outcome).partition(|one| one["outcome"] == "activated");
            assert_eq!(won.len(), 1, "{won:?} {lost:?}");
            for one in lost {
                let reason = one["reason"].as_str().unwrap_or_default();
                assert!(reason.contains("an activation is under way there"), "{one}");
            }
        });
        let generations = case.host.ssh_ok("ls -d /nix/var/nix/profiles/system-*-link | wc -l").unwrap();
        assert_eq!(generations.trim(), "2", "the system was committed more than once");
        case.left_nothing();
    })]);
}

#[test]
fn garbage_collection_in_a_loop_takes_nothing_that_is_needed() {
    play(&[("collected", |case| {
        case.host
            .ssh_ok(
                "systemd-run --quiet --unit gc sh -c 'while true; do nix-collect-garbage; sleep 0.2; done'",
            )
            .unwrap();
        for round in 0..3 {
            case.own(&(0..4).map(|part| payload(&format!("part{round}{part}"), 300_000)).collect::<String>());
            case.apply().exits(0).says("1 committed");
            assert_eq!(
                case.host.ssh_ok("cat /etc/part* | wc -c").unwrap().trim(),
                "1200000",
                "round {round}"
            );
        }
        // Built and sent, and then left alone for a while: it is a candidate still.
        case.own(&payload("pushed", 300_000));
        case.bosco(&["apply", "--goal", "push"]).exits(0);
        let collected = "systemctl stop gc; nix-collect-garbage >/dev/null 2>&1";
        case.host.ssh_ok(collected).unwrap();
        is_sound(case.host);
        case.bosco(&["apply", "--goal", "push"]).exits(0).says("there already");
        case.host
            .ssh_ok(
                "for path in /run/current-system /run/booted-system /nix/var/nix/profiles/system \
                   /nix/var/nix/gcroots/bosco/helper /nix/var/nix/gcroots/bosco/pushed; \
                 do nix-store --query --requisites $(readlink -f $path) | xargs nix-store --check-validity || exit 1; done",
            )
            .unwrap();
        case.apply().exits(0).says("1 committed");
    })]);
}

#[test]
fn a_path_that_the_hosts_disk_has_altered_is_found_before_anything_is_changed_and_mended() {
    play(&[
        ("cut-short", |case| damaged(case, "payload", "truncate -s 1000")),
        ("emptied", |case| damaged(case, "payload", "truncate -s 0")),
        ("gone", |case| damaged(case, "payload", "rm -f")),
        ("system-gone", |case| damaged(case, "nixos-system-*", "rm -rf")),
        ("beyond-mending", beyond_mending),
    ]);
}

/// Sends a system with a payload, and spoils the path of that name on the host. Gives it.
fn spoil(case: &Case<'_>, name: &str, how: &str) -> String {
    let before = case.host.ssh_ok("ls /nix/store").unwrap();
    case.own(&payload("payload", 300_000));
    case.bosco(&["apply", "--goal", "push"]).exits(0).says("pushed");
    let all = case.host.ssh_ok(&format!("ls -d /nix/store/*-{name}")).unwrap();
    let is_new = |path: &&str| !before.contains(path.trim_start_matches("/nix/store/"));
    let path = all.lines().find(is_new).unwrap().to_owned();
    case.host.ssh_ok(&format!("mount -o remount,rw /nix/store 2>/dev/null; {how} {path}")).unwrap();
    path
}

/// Spoils a path on the host after it was sent there: it is sent once more.
fn damaged(case: &Case<'_>, name: &str, how: &str) {
    let path = spoil(case, name, how);
    case.apply().exits(0).says(&format!("mended {path}, which was damaged there")).says("1 committed");
    assert_eq!(case.host.ssh_ok("wc -c < /etc/payload").unwrap().trim(), "300000");
    assert_eq!(case.host.ssh_ok("ls -A /nix/store | grep bosco-mend || true").unwrap(), "");
    is_sound(case.host);
    case.left_nothing();
}

/// The same, where the operator has no good one either: nothing is changed, until they have.
fn beyond_mending(case: &Case<'_>) {
    let before = stands(case.host);
    let path = spoil(case, "payload", "truncate -s 1000");
    let said = "refused: damaged there: ";
    let here = case.operator.store().join(path.trim_start_matches('/'));
    let good = fs::read(&here).unwrap();
    let write = |bytes: &[u8]| fs::write(&here, bytes).unwrap();
    // Of another length, and of the same one.
    write(b"short");
    case.apply()
        .exits(4)
        .says(said)
        .says(&path)
        .says("it can't be mended from here")
        .says("damaged in the store here");
    write(&vec![0; good.len()]);
    case.apply().exits(4).says(said).says(&path).says("is not what Nix there knows it by").says("--repair");
    case.stands_as(&before);
    assert_eq!(case.state(), "pending");
    write(&good);
    case.apply().exits(0).says("mended").says("1 committed");
    is_sound(case.host);
}

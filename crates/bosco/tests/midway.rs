//! What strikes in the middle of an activation: whoever asked for it, carries it out or watches over it is gone, the line is
//! away, the disk is full, the power fails. The host ends it by itself, never half-way, and the next apply works.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::case::{Case, Named, names, side_by_side};
use common::{is_sound, stands};
use testbed::{Lab, LabSpec, Unsynced};

/// Far more than a boot takes.
const BOOT: Duration = Duration::from_secs(60);
/// What an own disk has, in MiB.
const DISK: u64 = 200;

/// A switch that waits until it may go on.
const WAITS_IN_THE_SWITCH: &str =
    "system.activationScripts.wait = \"until [ -e /root/go ]; do sleep 0.1; done\";";
/// A proof that does.
const WAITS_IN_THE_WINDOW: &str = "deployment.healthChecks.wait = {
    command = \"until [ -e /root/go ]; do sleep 0.1; done\"; timeout = 25;
};";

/// Lets what waits go on. From outside: the host may not let anybody in.
fn go(case: &Case<'_>) {
    fs::write(case.host.root().join("root/go"), "").unwrap();
}

fn boot(case: &Case<'_>) {
    case.host.boot().unwrap();
    case.host.wait_for_boot(BOOT).unwrap();
}

/// The next apply brings the host to the end, and nothing is left of anything.
fn next_works(case: &Case<'_>) {
    go(case);
    case.with_time();
    case.apply().exits(0);
    assert_eq!(case.state(), "up-to-date", "{}", stands(case.host));
    case.left_nothing();
    assert!(!case.host.root().join("nix/var/nix/gcroots/bosco/candidate").exists());
}

/// Whatever it came to: the new system as a whole, or the old one.
fn is_settled(case: &Case<'_>, before: &str) {
    match case.ending().as_str() {
        "committed" => assert_eq!(case.state(), "up-to-date", "{}", stands(case.host)),
        "inconclusive" => case.stands_as(before),
        other => panic!("{} ended {other}: {}", case.name(), case.journal()),
    }
    case.left_nothing();
    let quarantine = &case.journal()["quarantine"];
    assert_eq!(quarantine.as_array().map(Vec::len), Some(0), "it is held against the system: {quarantine}");
}

fn kill_the_cli(case: &Case<'_>) {
    let effect = case.name().strip_prefix("killed-at-").unwrap();
    let before = stands(case.host);
    let options = "environment.etc.greeting.text = \"new\";";
    match effect {
        // Until then somebody is there, who may need their time.
        "set-profile" | "install-boot" | "disarm" => case.own(options),
        _ => case.own_unconfirmed(options),
    }
    let mut apply = case.start();
    apply.until_effect(case.name(), effect);
    drop(apply);
    case.until_at("ended");
    is_settled(case, &before);
    let must_be = match effect {
        // Nobody is left who could say that it can be reached.
        "check" | "root" | "sync" | "arm" | "switch" => "inconclusive",
        // It had been proven.
        "set-profile" | "install-boot" | "disarm" => "committed",
        _ => return next_works(case),
    };
    assert_eq!(case.ending(), must_be, "{}", case.journal());
    next_works(case);
}

#[test]
fn a_cli_that_is_killed_in_any_state_leaves_a_host_that_settles_by_itself() {
    let cases: [Named; 9] = [
        "killed-at-check",
        "killed-at-root",
        "killed-at-sync",
        "killed-at-arm",
        "killed-at-switch",
        "killed-at-probe",
        "killed-at-set-profile",
        "killed-at-install-boot",
        "killed-at-disarm",
    ]
    .map(|name| (name, kill_the_cli as fn(&Case<'_>)));
    let lab = Lab::up(&LabSpec::named(names(&cases))).unwrap();
    side_by_side(&lab, cases.len(), &cases);
}

#[test]
fn a_line_that_goes_away_in_the_window_takes_a_good_system_back_and_holds_nothing_against_it() {
    let cases: &[Named] = &[
        ("line-goes-away", |case| {
            let before = stands(case.host);
            case.own_unconfirmed("environment.etc.greeting.text = \"new\";");
            let mut apply = case.start();
            apply.until_effect(case.name(), "switch");
            case.host.cut().unwrap();
            case.ends(&["inconclusive"]);
            case.host.heal().unwrap();
            apply
                .ends()
                .exits(4)
                .says(case.name(), "inconclusive")
                .says(case.name(), "the host could not be reached any more")
                .says(case.name(), "apply again");
            case.stands_as(&before);
            case.status().says("inconclusive").says("the host could not be reached any more");
            next_works(case);
        }),
        ("laptop-sleeps", |case| {
            let before = stands(case.host);
            case.own_unconfirmed("environment.etc.greeting.text = \"new\";");
            let mut apply = case.start();
            apply.until_effect(case.name(), "switch");
            apply.signal("STOP");
            case.host.cut().unwrap();
            case.ends(&["inconclusive"]);
            case.host.heal().unwrap();
            apply.signal("CONT");
            apply.ends().exits(4).says(case.name(), "inconclusive").says(case.name(), "apply again");
            is_settled(case, &before);
            next_works(case);
        }),
        ("line-is-back-within-the-window", |case| {
            case.own("environment.etc.greeting.text = \"new\"; ");
            let mut apply = case.start();
            apply.until_effect(case.name(), "switch");
            case.host.cut().unwrap();
            case.until_at("proving");
            case.host.heal().unwrap();
            apply.ends().exits(0).says(case.name(), "activated");
            next_works(case);
        }),
    ];
    let lab = Lab::up(&LabSpec::named(names(cases))).unwrap();
    side_by_side(&lab, cases.len(), cases);
}

fn fill_the_disk(case: &Case<'_>) {
    let effect = case.name().strip_prefix("full-at-").unwrap();
    case.host.ssh_ok("sync").unwrap();
    let before = stands(case.host);
    case.own(&format!(
        "environment.etc.greeting.text = \"new\"; {}",
        match effect {
            "switch" => WAITS_IN_THE_SWITCH,
            "probe" => WAITS_IN_THE_WINDOW,
            _ => "",
        }
    ));
    let mut apply = case.start();
    apply.until_effect(case.name(), effect);
    case.host.fill_disk().unwrap();
    // It is there already where there is no room for it any more.
    let _ = fs::write(case.host.root().join("root/go"), "");
    let came = apply.ends();
    if matches!(effect, "root" | "probe") {
        // As it is left: what could not be written down must not be in the way.
        case.host.free_disk().unwrap();
    } else {
        // Small writes may still have found room. Whatever it says of them has to be on the disk.
        case.host.power_cut(Unsynced::Lost).unwrap();
        case.host.free_disk().unwrap();
        boot(case);
    }
    is_sound(case.host);
    if came.code == 0 {
        assert_eq!(
            case.host.ssh_ok("cat /etc/greeting").unwrap(),
            "new",
            "it was not committed, as bosco said"
        );
        assert_eq!(case.state(), "up-to-date", "{}", stands(case.host));
    } else {
        let came = came.exits(4);
        let reason = came.outcome(case.name())["reason"].as_str().unwrap();
        assert!(!reason.is_empty(), "{}", came.summary());
        assert_eq!(stands(case.host), before, "{}", came.outcome(case.name()));
    }
    next_works(case);
    assert_eq!(case.host.ssh_ok("cat /etc/greeting").unwrap(), "new");
    is_sound(case.host);
}

#[test]
fn a_disk_that_fills_in_mid_way_leaves_the_old_system_or_the_new_one_and_nothing_between() {
    let cases: [Named; 5] =
        ["full-at-root", "full-at-switch", "full-at-probe", "full-at-set-profile", "full-at-install-boot"]
            .map(|name| (name, fill_the_disk as fn(&Case<'_>)));
    let lab = Lab::up(&LabSpec::named(names(&cases)).own_disk(DISK)).unwrap();
    side_by_side(&lab, 3, &cases);
}

/// Cuts the power while the host is at `state`, and boots it: it runs and boots what it did before.
fn lose_power_at(case: &Case<'_>, state: &str, before: &str) {
    let earlier = case.attempt();
    let apply = case.start();
    case.until("begun anew", || case.attempt() != earlier);
    case.until_at(state);
    case.host.power_cut(Unsynced::Lost).unwrap();
    drop(apply);
    boot(case);
    assert_eq!(stands(case.host), before, "cut at {state}: {}", case.journal());
    is_sound(case.host);
    case.status().says("inconclusive");
}

/// Somebody else's switch, that lasts: a commit has to wait for it.
const HOLD: &str = "mkdir -p /run/nixos; systemd-run --quiet --unit holder --service-type=notify \
     --property=NotifyAccess=all flock /run/nixos/switch-to-configuration.lock \
     sh -c 'systemd-notify --ready; exec sleep 1000'";

#[test]
fn a_power_cut_boots_the_old_system_and_the_next_apply_takes_it_up() {
    let cases: &[Named] = &[
        ("cut-in-the-switch-twice", |case| {
            let before = stands(case.host);
            case.own(WAITS_IN_THE_SWITCH);
            lose_power_at(case, "switching", &before);
            // The first time nothing is held against it; the second time it is.
            lose_power_at(case, "switching", &before);
            case.apply()
                .exits(4)
                .says("refused: it is in quarantine: it was interrupted while switching, for the second time")
                .says("--again");
            case.status().says("quarantined").says("--again");
            assert_eq!(stands(case.host), before);
            go(case);
            case.bosco(&["apply", "--again"]).exits(0).says("1 committed");
            next_works(case);
        }),
        ("cut-in-the-window", |case| {
            let before = stands(case.host);
            case.own(WAITS_IN_THE_WINDOW);
            lose_power_at(case, "proving", &before);
            next_works(case);
            is_sound(case.host);
        }),
        ("cut-in-the-commit", |case| {
            let before = stands(case.host);
            case.own(WAITS_IN_THE_WINDOW);
            let apply = case.start();
            case.until_at("proving");
            case.host.ssh_ok(HOLD).unwrap();
            go(case);
            case.until_at("installing-boot");
            case.host.power_cut(Unsynced::Lost).unwrap();
            drop(apply);
            boot(case);
            // The profile is the new one's already, and what boots is the old one.
            let boots = |stands: &str| {
                stands.lines().filter(|line| line.contains("init=")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(boots(&stands(case.host)), boots(&before), "{}", case.journal());
            assert_ne!(case.state(), "up-to-date");
            next_works(case);
            is_sound(case.host);
        }),
    ];
    let lab = Lab::up(&LabSpec::named(names(cases)).own_disk(DISK)).unwrap();
    side_by_side(&lab, cases.len(), cases);
}

/// Ends units of the host by force, once it is at a state.
fn kill_at(case: &Case<'_>, state: &str, units: &str) {
    case.until_at(state);
    case.host.ssh_ok(&format!("systemctl kill --signal=SIGKILL {units}")).unwrap();
}

const HELPER: &str = "bosco-activation.service";
const DEAD_MAN: &str = "'bosco-dead-man-*'";

/// Kills what is at work in the middle, and looks at how it is taken back.
fn taken_back(case: &Case<'_>, options: &str, state: &str, units: &[&str], words: &str) {
    let before = stands(case.host);
    case.own(options);
    let apply = case.start();
    for units in units {
        kill_at(case, state, units);
    }
    let killed = Instant::now();
    let came = apply.ends().exits(4).says(case.name(), words);
    assert_eq!(came.outcome(case.name())["outcome"], "inconclusive", "{}", came.summary());
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(30), "{} was taken over only after {took:?}", case.name());
    is_settled(case, &before);
    next_works(case);
}

#[test]
fn a_helper_that_is_killed_is_taken_over_at_once_and_the_host_settles() {
    let cases: &[Named] = &[
        ("helper-killed-in-the-switch", |case| {
            taken_back(
                case,
                WAITS_IN_THE_SWITCH,
                "switching",
                &[HELPER],
                "it was interrupted while switching",
            );
        }),
        ("helper-killed-in-the-window", |case| {
            taken_back(case, WAITS_IN_THE_WINDOW, "proving", &[HELPER], "it was interrupted while proving");
        }),
        ("both-killed-in-the-switch", |case| {
            let both = format!("{HELPER} {DEAD_MAN}");
            taken_back(
                case,
                WAITS_IN_THE_SWITCH,
                "switching",
                &[&both],
                "it was interrupted while switching",
            );
        }),
        ("dead-man-killed-then-the-helper", |case| {
            taken_back(
                case,
                WAITS_IN_THE_WINDOW,
                "proving",
                &[DEAD_MAN, HELPER],
                "it was interrupted while proving",
            );
        }),
        ("dead-man-killed-alone", |case| {
            case.own(WAITS_IN_THE_WINDOW);
            let apply = case.start();
            kill_at(case, "proving", DEAD_MAN);
            go(case);
            apply.ends().exits(0).says(case.name(), "activated");
            next_works(case);
        }),
        ("both-killed-in-the-commit", |case| {
            case.own(WAITS_IN_THE_WINDOW);
            let apply = case.start();
            case.until_at("proving");
            case.host.ssh_ok(HOLD).unwrap();
            go(case);
            kill_at(case, "installing-boot", &format!("{HELPER} {DEAD_MAN}"));
            case.host.ssh_ok("systemctl stop holder").unwrap();
            // What was proven is committed by whoever takes it over.
            apply.ends().exits(0).says(case.name(), "activated");
            assert_eq!(case.state(), "up-to-date");
            next_works(case);
        }),
    ];
    let lab = Lab::up(&LabSpec::named(names(cases))).unwrap();
    side_by_side(&lab, 4, cases);
}

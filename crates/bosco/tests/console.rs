//! Going back and starting anew: from the operator's place, and at the host's own console.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use common::case::{Case, Named, names, side_by_side};
use common::{Said, json, stands};
use testbed::{Lab, LabSpec, Unsynced};

/// How many cases are played at once.
const AT_ONCE: usize = 3;
/// Far more than a boot takes.
const BOOT: Duration = Duration::from_secs(60);

fn play(cases: &[Named]) {
    let lab = Lab::up(&LabSpec::named(names(cases))).unwrap();
    side_by_side(&lab, AT_ONCE, cases);
}

/// Makes a generation that greets so, with more in it.
fn generation_with(case: &Case<'_>, greeting: &str, more: &str) {
    case.own(&format!("environment.etc.greeting.text = \"{greeting}\"; {more}"));
    case.apply().exits(0).says("1 committed");
}

fn generation(case: &Case<'_>, greeting: &str) {
    generation_with(case, greeting, "");
}

fn greeting(case: &Case<'_>) -> String {
    case.host.ssh_ok("cat /etc/greeting 2>/dev/null || echo none").unwrap().trim().to_owned()
}

/// The generation that the profile names.
fn present(case: &Case<'_>) -> String {
    case.host.ssh_ok("readlink /nix/var/nix/profiles/system").unwrap().trim().to_owned()
}

fn power_cut_and_boot(case: &Case<'_>) {
    case.host.power_cut(Unsynced::Kept).unwrap();
    case.host.boot().unwrap();
    case.host.wait_for_boot(BOOT).unwrap();
}

/// `bosco local WORDS` at the host's console.
fn local(case: &Case<'_>, words: &str) -> Said {
    Said::of(&case.host.ssh(&format!("/nix/var/nix/gcroots/bosco/helper/bin/bosco local {words}")).unwrap())
}

#[test]
fn a_rollback_goes_one_back_or_as_far_as_it_is_asked_to() {
    play(&[
        ("one-back-then-one-further", |case| {
            generation(case, "two");
            generation(case, "three");
            case.bosco(&["rollback"]).exits(0).says("committed generation 2 again");
            assert_eq!((greeting(case).as_str(), present(case).as_str()), ("two", "system-2-link"));
            case.left_nothing();
            power_cut_and_boot(case);
            assert_eq!(greeting(case), "two", "it does not boot what was gone back to");
            case.bosco(&["rollback"]).exits(0).says("committed generation 1 again");
            assert_eq!(greeting(case), "none");
            case.bosco(&["rollback"]).exits(4).says("refused: it has no older generation");

            case.bosco(&["rollback", "--to", "3"]).exits(0).says("committed generation 3 again");
            assert_eq!((greeting(case).as_str(), present(case).as_str()), ("three", "system-3-link"));
            case.bosco(&["rollback", "--to", "3"]).exits(0).says("up to date");
            case.bosco(&["rollback", "--to", "99"])
                .exits(4)
                .says("refused: it has no generation 99")
                .says("bosco generations");
            case.host
                .ssh_ok("nix-env --profile /nix/var/nix/profiles/system --delete-generations 2")
                .unwrap();
            let before = stands(case.host);
            case.bosco(&["rollback", "--to", "2"]).exits(4).says("refused: it has no generation 2");
            case.stands_as(&before);
        }),
        ("after-a-failed-apply", |case| {
            generation(case, "two");
            let broken = "system.activationScripts.oops = \"false\";";
            case.own(&format!("environment.etc.greeting.text = \"broken\"; {broken}"));
            case.apply().exits(4).says("reverted: its activation script failed");
            case.status().says("reverted").says("its activation script failed");
            // What failed was never a generation: one back is the one before what runs.
            case.bosco(&["rollback"]).exits(0).says("committed generation 1 again");
            assert_eq!(greeting(case), "none");
        }),
        ("after-a-test", |case| {
            generation(case, "two");
            case.own("environment.etc.greeting.text = \"tested\";");
            case.bosco(&["apply", "--goal", "test"]).exits(0).says("activated until the next boot");
            assert_eq!((greeting(case).as_str(), present(case).as_str()), ("tested", "system-2-link"));
            case.bosco(&["rollback"]).exits(0).says("committed generation 2 again");
            assert_eq!((greeting(case).as_str(), present(case).as_str()), ("two", "system-2-link"));
        }),
        ("beyond-what-the-boot-menu-has", |case| {
            let limit = "boot.loader.systemd-boot.configurationLimit = 2;";
            for greeting in ["two", "three", "four"] {
                generation_with(case, greeting, limit);
            }
            let entries = case.host.ssh_ok("ls /boot/loader/entries").unwrap();
            assert!(!entries.contains("generation-2"), "the menu has it still: {entries}");
            case.bosco(&["rollback", "--to", "2"]).exits(0).says("generation");
            assert_eq!(greeting(case), "two");
            power_cut_and_boot(case);
            assert_eq!(
                greeting(case),
                "two",
                "it does not boot what was gone back to: {}",
                stands(case.host)
            );
        }),
        ("to-one-that-does-not-hold-any-more", |case| {
            let picky = "systemd.services.picky = {
                           wantedBy = [ \"multi-user.target\" ];
                           serviceConfig.Type = \"oneshot\";
                           script = \"test ! -e /root/in-the-way\";
                         };";
            generation_with(case, "two", picky);
            generation(case, "three");
            let before = stands(case.host);
            case.host.ssh_ok("touch /root/in-the-way").unwrap();
            case.bosco(&["rollback"])
                .exits(4)
                .says("reverted: picky.service has failed; it runs generation 3 again");
            case.stands_as(&before);
            case.host.ssh_ok("rm /root/in-the-way").unwrap();
            // Who names it wants it, whatever became of it before.
            case.bosco(&["rollback", "--to", "2"]).exits(0).says("committed generation 2 again");
        }),
    ]);
}

#[test]
fn a_reboot_is_waited_for_and_left_alone_where_none_is_needed() {
    play(&[("reboots", |case| {
        let boot = || case.host.ssh_ok("sed 's/.*) //' /proc/1/stat | cut -d' ' -f20").unwrap();
        generation(case, "two");
        let first = boot();
        case.bosco(&["reboot", "--if-needed"]).exits(0).says("no reboot needed");
        assert_eq!(boot(), first, "it has rebooted all the same");
        case.bosco(&["reboot"]).exits(0).says("1 rebooted");
        let second = boot();
        assert_ne!(second, first, "it has not rebooted");
        assert_eq!(case.state(), "up-to-date");
        case.own("environment.etc.greeting.text = \"three\";");
        case.bosco(&["apply", "--goal", "boot"]).exits(0).says("from the next boot on");
        assert_eq!((greeting(case).as_str(), case.state().as_str()), ("two", "boot-pending"));
        case.bosco(&["reboot", "--if-needed"]).exits(0).says("1 rebooted");
        assert_ne!(boot(), second, "it has not rebooted");
        assert_eq!((greeting(case).as_str(), case.state().as_str()), ("three", "up-to-date"));
    })]);
}

#[test]
fn at_its_console_a_host_says_how_it_stands_and_goes_back_without_anybody() {
    play(&[
        ("console", |case| {
            generation(case, "two");
            generation(case, "three");
            local(case, "status").exits(0).says("(generation 3)").says("committed").says("/nix/var/bosco/");
            local(case, "resume").exits(0).says("nothing was to be taken up");
            local(case, "rollback --to 99").exits(1).says("it has no generation 99");
            local(case, "nonsense").exits(2).says("usage:");
            local(case, "rollback").exits(0).says("going back to generation 2").says("committed");
            assert_eq!((greeting(case).as_str(), present(case).as_str()), ("two", "system-2-link"));
            case.left_nothing();
            power_cut_and_boot(case);
            assert_eq!(greeting(case), "two");
            local(case, "rollback --to 3").exits(0).says("committed");
            assert_eq!(case.state(), "up-to-date");
        }),
        ("console-without-network", |case| {
            generation(case, "two");
            generation_with(case, "three", "");
            // Nobody can reach it; it goes back all the same.
            let script = "/nix/var/nix/gcroots/bosco/helper/bin/bosco local rollback > /root/said 2>&1; echo $? > /root/code";
            case.host.ssh_ok(&format!("systemd-run --quiet --on-active=1s sh -c '{script}'")).unwrap();
            case.host.cut().unwrap();
            let code = case.host.root().join("root/code");
            let started = std::time::Instant::now();
            while std::fs::read_to_string(&code).unwrap_or_default().is_empty() {
                assert!(started.elapsed() < BOOT, "it has not come to an end: {}", case.host.console());
                std::thread::sleep(Duration::from_millis(50));
            }
            case.host.heal().unwrap();
            assert_eq!(
                case.host.ssh_ok("cat /root/code").unwrap().trim(),
                "0",
                "{}",
                case.host.ssh_ok("cat /root/said").unwrap()
            );
            assert_eq!(greeting(case), "two");
        }),
        ("console-resumes", |case| {
            generation(case, "two");
            let before = stands(case.host);
            let wait = "system.activationScripts.wait = \"until [ -e /root/go ]; do sleep 0.1; done\";";
            case.own(&format!("environment.etc.greeting.text = \"three\"; {wait}"));
            let apply = case.start();
            case.until_at("switching");
            case.host.power_cut(Unsynced::Kept).unwrap();
            drop(apply);
            case.host.boot().unwrap();
            case.host.wait_for_boot(BOOT).unwrap();
            local(case, "status").exits(0).says("switching");
            local(case, "resume").exits(4).says("inconclusive: it was interrupted while switching");
            case.stands_as(&before);
            local(case, "resume").exits(0).says("nothing was to be taken up");
            // A system in quarantine is let go.
            case.own("system.activationScripts.oops = \"false\";");
            case.apply().exits(4).says("reverted");
            local(case, "status").exits(0).says("quarantine ").says("its activation script failed");
            local(case, "resume").exits(0).says("no longer in quarantine: /nix/store/");
            case.apply().exits(4).says("reverted");
        }),
    ]);
}

#[test]
fn pushes_are_counted_and_hold_the_host_until_that_is_let_go() {
    play(&[("counted", |case| {
        let counted = || {
            let observed = json(case.operator, &case.fleet, &["status"])[0]["observed"].clone();
            let runs = observed["current"] == observed["hold"]["toplevel"];
            (observed["number"].as_u64().unwrap(), observed["hold"]["number"].as_u64(), runs)
        };
        let helper = |words: &str| {
            Said::of(
                &case
                    .host
                    .ssh(&format!("/nix/var/nix/gcroots/bosco/helper/bin/bosco helper {words}"))
                    .unwrap(),
            )
        };
        assert_eq!(counted(), (0, None, false));
        generation(case, "two");
        assert_eq!(counted(), (1, Some(1), true));
        case.own("environment.etc.greeting.text = \"tested\";");
        case.bosco(&["apply", "--goal", "test"]).exits(0);
        assert_eq!(counted(), (1, Some(1), false), "a test is gone with the next boot");
        case.own("environment.etc.greeting.text = \"broken\"; system.activationScripts.oops = \"false\";");
        case.apply().exits(4).says("reverted");
        assert_eq!(counted().0, 1, "what did not hold is not counted");
        generation(case, "three");
        assert_eq!(counted(), (2, Some(2), true));
        case.bosco(&["rollback"]).exits(0);
        assert_eq!(counted(), (3, Some(3), true), "to go back is a step of its own");
        local(case, "status").exits(0).says("number    3").says("hold      /nix/store/");
        local(case, "rollback --to 1").exits(0);
        assert_eq!(counted(), (4, Some(4), true));

        // What is fetched later than a push, and does not contain it, is refused there, whoever asks for it.
        let toplevel = case.host.ssh_ok("readlink -f /nix/var/nix/profiles/system-3-link").unwrap();
        let fetched = |number: u64, lifts: u64| {
            let request = format!(
                r#"{{"id":"fetched-{number}","goal":"switch","toplevel":"{}","by":"agent","number":{number},"lifts":{lifts}}}"#,
                toplevel.trim()
            );
            helper(&format!("activate <<< '{request}'"))
        };
        fetched(3, 0).exits(0).says("\"refused\":\"older\"");
        fetched(5, 3).exits(0).says("\"refused\":\"held\"");
        assert_eq!((counted(), greeting(case).as_str()), ((4, Some(4), true), "none"));
        helper("lift 3").exits(0);
        assert_eq!(counted(), (4, Some(4), true), "that was an earlier one");
        helper("lift 4").exits(0).says("lifted {\"number\":4,");
        assert_eq!(counted(), (4, None, false));
        local(case, "rollback --to 2").exits(0);
        fetched(6, 5).exits(0).says("\"committed\"");
        assert_eq!((counted(), greeting(case).as_str()), ((6, None, false), "three"), "it lifts the hold");
    })]);
}

#[test]
fn a_specialisation_that_runs_is_kept() {
    play(&[("tracing", |case| {
        let special = "specialisation.tracing.configuration.environment.etc.tracing.text = \"yes\";";
        generation_with(case, "two", special);
        case.host
            .ssh_ok("/run/current-system/specialisation/tracing/bin/switch-to-configuration test")
            .unwrap();
        assert_eq!(case.state(), "up-to-date", "a specialisation counts as the system that it is one of");
        generation_with(case, "three", special);
        assert_eq!(greeting(case), "three");
        assert_eq!(
            case.host.ssh_ok("cat /etc/tracing").unwrap(),
            "yes",
            "the specialisation has not been kept"
        );
        assert_eq!(
            case.host.ssh_ok("readlink -f /run/current-system").unwrap(),
            case.host.ssh_ok("readlink -f /nix/var/nix/profiles/system/specialisation/tracing").unwrap(),
        );
        assert_eq!(case.state(), "up-to-date");
        case.apply().exits(0).says("1 up to date");
        // One that breaks goes back to it.
        let before = stands(case.host);
        case.own(&format!(
            "environment.etc.greeting.text = \"four\"; {special} system.activationScripts.oops = \"false\";"
        ));
        case.apply().exits(4).says("reverted");
        case.stands_as(&before);
        assert_eq!(case.host.ssh_ok("cat /etc/tracing").unwrap(), "yes");
        // A system that has none of that name runs as it is.
        generation(case, "five");
        assert_eq!((greeting(case).as_str(), case.state().as_str()), ("five", "up-to-date"));
    })]);
}

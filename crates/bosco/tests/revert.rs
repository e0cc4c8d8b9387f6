//! A new system that breaks its host, in each way that an operator fears: the host is back by itself, within its window, and
//! what it did is told. Each case is a host of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::{Duration, Instant};

use common::case::{ACTIVATION, BEYOND, Case, Named, SHORT_WINDOW, WINDOW, names, side_by_side};
use common::follow::Came;
use common::{stands, state};
use testbed::{Lab, LabSpec};

/// How many cases are played at once: they wait more than they work.
const AT_ONCE: usize = 3;

fn play(cases: &[Named]) {
    let lab = Lab::up(&LabSpec::named(names(cases))).unwrap();
    side_by_side(&lab, AT_ONCE, cases);
}

/// Makes what the host should run break it, and looks at how it comes back: within its window, and told.
fn breaks(case: &Case<'_>, options: &str, is_cut_off: bool) -> Came {
    let before = stands(case.host);
    case.own_unconfirmed(options);
    let (came, away) = case.apply_and_watch();
    let name = case.name();
    if is_cut_off {
        let away = away.unwrap_or_else(|| panic!("{name} could be reached all the time: nothing was broken"));
        assert!(
            away < Duration::from_secs(SHORT_WINDOW) + BEYOND,
            "{name} could not be reached for {away:?}; {}",
            case.journal()
        );
    }
    let came =
        came.exits(4).says(name, "it runs generation ").says(name, "again").says(name, "/nix/var/bosco/");
    case.stands_as(&before);
    came
}

/// The same, for a system that cuts its host off: that is what is held against it.
fn cuts_off(case: &Case<'_>, good: &str, bad: &str) {
    let came = breaks(case, bad, true);
    assert_eq!(came.outcome(case.name())["outcome"], "reverted", "{}", came.summary());
    came.says(case.name(), "the host could not be reached any more");
    case.status().says("reverted").says("the host could not be reached any more");
    // It is not tried again by itself, and does not stand in the way of another.
    case.apply().exits(4).says("refused: it is in quarantine");
    case.own(&format!("environment.etc.greeting.text = \"mended\"; {good}"));
    case.apply().exits(0).says("1 committed");
    assert_eq!(case.state(), "up-to-date");
}

/// One that is unwell, and says so with these words.
fn unwell(case: &Case<'_>, options: &str, words: &[&str]) {
    let mut came = breaks(case, options, false);
    assert_eq!(came.outcome(case.name())["outcome"], "reverted", "{}", came.summary());
    for word in words {
        came = came.says(case.name(), word);
    }
    case.status().says("reverted").says(words[0]);
}

#[test]
fn a_system_that_cuts_its_host_off_is_gone_within_the_window() {
    play(&[
        ("sshd-on-another-port", |case| cuts_off(case, "", "services.openssh.ports = [ 2222 ];")),
        ("firewall-that-drops-ssh", |case| {
            cuts_off(case, "", "services.openssh.openFirewall = false;");
        }),
        ("another-address", |case| {
            let eth0 = |address: &str| {
                format!(
                    "networking.interfaces.eth0.ipv4.addresses = [ {{ address = \"{address}\"; prefixLength = 16; }} ];"
                )
            };
            // As it was given it, in its own configuration: the change takes that one away.
            let own = eth0(&case.host.address().to_string());
            case.own(&own);
            case.apply().exits(0).says("1 committed");
            cuts_off(case, &own, &eth0("10.77.200.1"));
        }),
        ("no-route-to-the-operator", |case| {
            let ip = "${pkgs.iproute2}/bin/ip route";
            let routes = format!(
                "systemd.services.static-routes = {{
                   wantedBy = [ \"multi-user.target\" ];
                   serviceConfig = {{
                     Type = \"oneshot\";
                     RemainAfterExit = true;
                     ExecStart = \"{ip} add blackhole 10.77.0.1/32\";
                     ExecStop = \"{ip} del blackhole 10.77.0.1/32\";
                   }};
                 }};"
            );
            cuts_off(case, "", &routes);
        }),
    ]);
}

#[test]
fn a_system_that_makes_its_host_unwell_is_taken_back_with_what_it_said() {
    play(&[
        ("sshd-that-does-not-start", |case| {
            // Between two tries to start it, it is not failed: then it is the connection that does not come.
            let came = breaks(case, "services.openssh.extraConfig = \"Nonsense yes\\n\";", false);
            assert_eq!(came.outcome(case.name())["outcome"], "reverted", "{}", came.summary());
            came.says(case.name(), "sshd.service");
            case.status().says("reverted");
        }),
        ("names-that-are-not-found", |case| {
            let checks = "deployment.healthChecks = {
                            dns = { command = \"getent hosts db.internal\"; retries = 1; };
                            db = { tcp = \"db.internal:22\"; retries = 1; };
                          };";
            case.own(&format!("{checks} networking.hosts.\"127.0.0.9\" = [ \"db.internal\" ];"));
            case.apply().exits(0).says("1 committed");
            unwell(case, checks, &["health check `db` failed", "health check `dns` failed", "db.internal"]);
        }),
        ("unit-that-fails", |case| {
            let unit = "systemd.services.broken = {
                          wantedBy = [ \"multi-user.target\" ];
                          serviceConfig.Type = \"oneshot\";
                          script = \"echo out of ducks; exit 7\";
                        };";
            unwell(case, unit, &["broken.service has failed", "status=7"]);
        }),
        ("service-that-is-started-again-and-again", |case| {
            let unit = "systemd.services.looping = {
                          wantedBy = [ \"multi-user.target\" ];
                          serviceConfig = { Restart = \"always\"; RestartSec = \"100ms\"; };
                          script = \"sleep 1; echo can not bind; exit 1\";
                        };";
            unwell(case, unit, &["looping.service has failed", "can not bind"]);
        }),
        ("check-that-never-holds", |case| {
            let check = "environment.etc.fresh.text = \"\"; deployment.healthChecks.ready = {
                           command = \"echo not ready; ! test -e /etc/fresh\"; retries = 2; interval = 1; timeout = 2;
                         };";
            unwell(case, check, &["health check `ready` failed", "not ready", "after 3 tries"]);
        }),
    ]);
}

/// Hosts that can't tell, and those that need their time.
#[test]
fn what_is_not_the_systems_fault_is_not_held_against_it() {
    play(&[
        ("check-that-holds-late", |case| {
            case.own(
                "deployment.healthChecks.late = {
                   command = \"echo x >> /run/tries; test $(wc -l < /run/tries) -ge 3\"; retries = 5; interval = 1;
                 };",
            );
            case.apply().exits(0).says("1 committed");
            assert_eq!(case.host.ssh_ok("wc -l < /run/tries").unwrap().trim(), "3");
            case.left_nothing();
        }),
        ("check-that-fails-on-the-old-system-too", |case| {
            // What it asks for is there when the old system comes, and gone when the new one does.
            let check = "deployment.healthChecks.away = { command = \"test -e /run/there\"; timeout = 1; retries = 1; interval = 1; };";
            case.host.ssh_ok("touch /run/there").unwrap();
            case.own(check);
            case.apply().exits(0).says("1 committed");
            case.host.ssh_ok("rm /run/there").unwrap();
            let before = stands(case.host);
            case.own(&format!("environment.etc.more.text = \"more\"; {check}"));
            for _ in 0..2 {
                case.apply()
                    .exits(4)
                    .says("inconclusive: health check `away` failed")
                    .says("it runs generation 2 again")
                    .says("the same fails on the old system");
                case.stands_as(&before);
                case.status().says("inconclusive").says("health check `away` failed");
            }
            assert_eq!(case.journal()["quarantine"].as_array().unwrap().len(), 0, "{}", case.journal());
            case.own("");
            case.apply().exits(0).says("1 committed");
        }),
        ("lock-that-another-holds", |case| {
            let before = stands(case.host);
            case.host
                .ssh_ok(
                    "mkdir -p /run/nixos; systemd-run --quiet --unit holder --service-type=notify \
                     --property=NotifyAccess=all flock /run/nixos/switch-to-configuration.lock \
                     sh -c 'systemd-notify --ready; exec sleep 1000'",
                )
                .unwrap();
            case.own("environment.etc.greeting.text = \"new\";");
            case.apply()
                .exits(4)
                .says("refused: another program is switching that host")
                .says("lock")
                .says("hint:");
            case.stands_as(&before);
            assert_eq!(case.state(), "pending");
            case.host.ssh_ok("systemctl stop holder").unwrap();
            case.apply().exits(0).says("1 committed");
        }),
        ("network-that-restarts-in-the-switch", |case| {
            let ip = "${pkgs.iproute2}/bin/ip link set eth0";
            case.own(&format!("system.activationScripts.network = \"{ip} down; sleep 4; {ip} up\";"));
            let (came, away) = case.apply_and_watch();
            let away = away.expect("the network was never down");
            assert!(away < Duration::from_secs(WINDOW), "it was away for {away:?}");
            came.exits(0).says(case.name(), "activated");
            assert_eq!(case.state(), "up-to-date");
            case.left_nothing();
        }),
    ]);
}

#[test]
fn an_activation_that_hangs_is_ended_and_taken_back_in_time() {
    play(&[
        ("script-that-hangs", |case| {
            hangs(case, "system.activationScripts.hangs = \"sleep 1000000\";", "switching");
        }),
        ("script-that-ignores-signals", |case| {
            hangs(
                case,
                "system.activationScripts.hangs = \"trap '' TERM INT HUP; while true; do sleep 1000000 || true; done\";",
                "switching",
            );
        }),
        ("unit-that-never-starts", |case| {
            let unit = "systemd.services.hangs = {
                          wantedBy = [ \"multi-user.target\" ];
                          serviceConfig = { Type = \"oneshot\"; TimeoutStartSec = \"infinity\"; };
                          script = \"sleep 1000000\";
                        };";
            hangs(case, unit, "switching");
        }),
        ("check-that-hangs", |case| {
            hangs(
                case,
                "environment.etc.fresh.text = \"\"; deployment.healthChecks.hangs = {
                   command = \"if [ -e /etc/fresh ]; then sleep 1000000; fi\"; timeout = 1000; retries = 1000;
                 };",
                "health check `hangs` failed",
            );
        }),
    ]);
}

/// Makes the activation shorter, so that it does not take long until it has taken too long.
fn hangs(case: &Case<'_>, options: &str, words: &str) {
    const SHORT: u64 = 10;
    const { assert!(SHORT < ACTIVATION) };
    let before = stands(case.host);
    case.own(&format!("deployment.update.activationTimeout = {SHORT}; {options}"));
    let mut apply = case.start();
    apply.until_at(case.name(), "activate");
    let began = Instant::now();
    let came = apply.ends().exits(4).says(case.name(), words);
    let took = began.elapsed();
    let limit = Duration::from_secs(SHORT + 20);
    assert!(took < limit, "{}: it was back only after {took:?}", case.name());
    let outcome = came.outcome(case.name());
    assert!(matches!(outcome["outcome"].as_str(), Some("reverted" | "inconclusive")), "{outcome}");
    case.stands_as(&before);
    let left = case.host.ssh("pgrep -f 'sleep 100000[0]'").unwrap();
    assert!(!left.status.success(), "what hung is still at work: {left:?}");
    assert!(["reverted", "inconclusive"].contains(&state(case.operator, &case.fleet, case.name()).as_str()));
}

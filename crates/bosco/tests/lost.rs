//! A connection that is lost, or a host that hangs, in each phase of an apply: it is told, given up in time, nothing is
//! left half-way, the others go on, and the next apply brings the host to the end.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use common::follow::{Apply, Came};
use common::{bosco, is_sound, stands, state};
use serde_json::Value;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec, Operator};

/// What bosco may take to give up a host that says nothing any more: 15 seconds, or 10 to connect, and once more each.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// A fleet of these hosts. Each gets a few megabytes, and activates when there is a file `/root/go`.
fn fleet<'a>(operator: &'a Operator, hosts: &[&str]) -> Fleet<'a> {
    let fleet = create(operator, "lost").unwrap();
    let names: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let flake = format!(
        r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = {{ self, nixpkgs }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {} ] (
      name: nixpkgs.lib.nixosSystem {{
        system = "x86_64-linux";
        modules = [ ./deployment.nix ./common.nix {{ networking.hostName = name; }} ];
      }}
    );
  }};
}}
"#,
        names.join(" ")
    );
    let common = r#"{ config, pkgs, lib, ... }: {
  services.openssh.enable = true;
  deployment.targetPort = lib.mkIf (config.networking.hostName == "mute") 2222;
  environment.etc = lib.genAttrs (map (n: "part${toString n}") (lib.range 1 5)) (name: {
    source = pkgs.runCommand name { } "head -c 1000000 /dev/urandom > $out";
  });
  system.activationScripts.wait = "until [ -e /root/go ]; do sleep 0.1; done";
  system.stateVersion = "26.05";
}
"#;
    let module = common::repository().join("nix/modules/deployment.nix");
    fleet.write("deployment.nix", &fs::read_to_string(module).unwrap()).unwrap();
    fleet.write("common.nix", common).unwrap();
    fleet.write("flake.nix", &flake).unwrap();
    fleet
}

/// Lets a host's activation, and its answer to what it is, go on. From outside: it may be cut off.
fn go(host: &Host) {
    fs::write(host.root().join("root/go"), "").unwrap();
}

/// Makes a host hang while it says what it is, until it may [`go`] on.
fn hang_while_surveyed(host: &Host) {
    let df = "#!/bin/sh\\ntouch /root/surveyed\\nuntil [ -e /root/go ]; do sleep 0.1; done\\n\
              exec /run/current-system/sw/bin/df \\\"$@\\\"\\n";
    host.ssh_ok(&format!(
        "mkdir -p /run/wrappers/bin; printf \"{df}\" > /run/wrappers/bin/df; chmod +x /run/wrappers/bin/df"
    ))
    .unwrap();
}

fn until_surveyed(host: &Host) {
    let started = Instant::now();
    while !host.root().join("root/surveyed").exists() {
        assert!(
            started.elapsed() < GIVEN_UP,
            "{} was never asked what it is: {}",
            host.name(),
            host.console()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something greets at a host's port 2222.
fn until_greeted(host: &Host) {
    let started = Instant::now();
    loop {
        let greeting = host.connect(2222, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting)?;
            Ok(greeting)
        });
        match greeting {
            Ok(greeting) => return assert_eq!(&greeting, b"SSH-"),
            Err(error) => assert!(started.elapsed() < GIVEN_UP, "{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The activation of a host has begun: its unit runs.
fn until_activation_begun(host: &Host) {
    common::until_activating(host);
}

/// Waits until a host has switched, and waits to be reached. From outside: it may be cut off.
fn until_switched(host: &Host) {
    let started = Instant::now();
    let journal = || fs::read_to_string(host.root().join("nix/var/bosco/journal.json")).unwrap_or_default();
    while !journal().contains("\"state\":\"proving\"") {
        assert!(started.elapsed() < GIVEN_UP, "{} has never switched: {}", host.name(), journal());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Loses the connection to a host in a phase, and looks at what is left of it.
fn lose(operator: &Operator, fleet: &Fleet<'_>, host: &Host, phase: &str, fault: &str) {
    let name = host.name();
    let before = stands(host);
    match phase {
        "survey" => hang_while_surveyed(host),
        "copy" => host.bandwidth(8_000).unwrap(),
        _ => {}
    }
    if phase == "connect" || phase == "copy" {
        go(host);
    }

    let mut apply = Apply::start(operator, fleet, &["--on", name]);
    match phase {
        "connect" => apply.until_at(name, "connect"),
        "survey" => until_surveyed(host),
        "copy" => apply.until_half_copied(name),
        _ => until_activation_begun(host),
    }
    match fault {
        "cut" => host.cut().unwrap(),
        _ => apply.kill_ssh(name),
    }
    let struck = Instant::now();
    if phase == "survey" && fault == "killed" {
        go(host);
    }
    if phase == "activate" {
        // The activation outlives the session, and bosco comes back to prove it.
        go(host);
        if fault == "cut" {
            until_switched(host);
            host.heal().unwrap();
        }
    }
    let came = apply.ends();
    assert!(struck.elapsed() < GIVEN_UP, "{name}: given up only after {:?}", struck.elapsed());

    let outcome = came.outcome(name);
    match (phase, fault) {
        // It had not said a word: bosco tries again, and so it is deployed after all.
        ("connect" | "survey", "killed") | ("activate", _) => assert_eq!(came.code, 0, "{name}: {outcome}"),
        // Cut before it could say what it is, it is away; but a connection that was there may count as lost.
        ("connect" | "survey", _) => assert!(matches!(came.code, 4 | 5), "{name}: {outcome}"),
        _ => {
            assert_eq!(came.code, 4, "{name}: {outcome}");
            assert_eq!(outcome["stage"], phase, "{name}: {outcome}");
            assert_eq!(outcome["reason"], "the connection was lost", "{name}: {outcome}");
        }
    }
    if came.code != 0 {
        assert!(outcome["hint"].is_string(), "{name}: nothing says what to do: {outcome}");
    }

    // As it stands the moment that it can be reached again.
    host.heal().unwrap();
    if phase == "activate" {
        assert_eq!(state(operator, fleet, name), "up-to-date", "{name}:\n{}", stands(host));
    } else if came.code != 0 {
        assert_eq!(stands(host), before, "{name}: the connection was lost before the activation");
    }
    is_sound(host);
    go(host);
    bosco(operator, fleet, &["apply", "--on", name]).exits(0);
    assert_eq!(state(operator, fleet, name), "up-to-date", "{name}, after a second apply");
    is_sound(host);
}

#[test]
fn a_connection_that_is_lost_in_any_phase_leaves_nothing_half_way() {
    let cases: Vec<(&str, &str, String)> = ["connect", "survey", "copy", "activate"]
        .into_iter()
        .flat_map(|phase| ["cut", "killed"].map(|fault| (phase, fault, format!("{phase}-{fault}"))))
        .collect();
    let names: Vec<&str> = cases.iter().map(|(_, _, name)| name.as_str()).collect();
    let lab = Lab::up(&LabSpec::named(names.clone())).unwrap();
    let operator = lab.operator();
    let fleet = fleet(operator, &names);
    // What all of them get is there before the time counts.
    bosco(operator, &fleet, &["build"]).exits(0);
    // Each is a run of its own, side by side: nearly all of the time is spent waiting for one that is gone.
    std::thread::scope(|scope| {
        for (phase, fault, name) in &cases {
            let (fleet, host) = (&fleet, lab.host(name).unwrap());
            scope.spawn(move || lose(operator, fleet, host, phase, fault));
        }
    });
}

/// Fails unless a host was delivered to before another one was given up. How long the rest takes is the machine's business.
#[track_caller]
fn did_not_wait(came: &Came, well: &str, given_up: &str) {
    let at = |host: &str, what: &str, is: &dyn Fn(&Value) -> bool| {
        let found = came.events.iter().position(|event| event["host"] == host && is(event));
        found.unwrap_or_else(|| panic!("{host} never {what}: {}", came.summary()))
    };
    let delivered = at(well, "was delivered to", &|event| event["stage"] == "copy");
    let ended = at(given_up, "was given up", &|event| event["event"] == "ended");
    assert!(delivered < ended, "{well} had to wait until {given_up} was given up");
}

#[test]
fn hosts_that_hang_are_given_up_in_time_and_the_others_go_on() {
    let hung = ["hangs-at-connect", "hangs-at-wait", "hangs-at-copy", "hangs-at-activate"];
    let names = [&hung[..], &["well"]].concat();
    let lab = Lab::up(&LabSpec::named(names.clone())).unwrap();
    let operator = lab.operator();
    let fleet = fleet(operator, &names);
    bosco(operator, &fleet, &["build"]).exits(0);
    let host = |name: &str| lab.host(name).unwrap();
    let before: Vec<_> = hung.iter().map(|name| stands(host(name))).collect();
    go(host("well"));
    // Slow enough that it can be caught in the middle.
    host("hangs-at-copy").bandwidth(8_000).unwrap();

    let mut struck = None;
    let mut given_up = 0;
    let came = Apply::start(operator, &fleet, &[]).follow(|event: &Value| {
        let Some(name) = event["host"].as_str().filter(|name| hung.contains(name)) else { return };
        if event["event"] == "ended" {
            given_up += 1;
        }
        // What has begun to change is followed for as long as it may take to go back: it has to end one way or the other.
        if event["event"] == "ended" && given_up == hung.len() - 1 {
            let took = struck.map(|struck: Instant| struck.elapsed()).unwrap_or_default();
            assert!(took < GIVEN_UP, "they were given up only after {took:?}");
            host("hangs-at-activate").thaw().unwrap();
            go(host("hangs-at-activate"));
        }
        let moment = match name {
            "hangs-at-copy" => event["event"] == "copied" && event["bytes"].as_u64() > Some(0),
            _ => {
                event["event"] == "stage" && name.ends_with(&format!("-{}", event["stage"].as_str().unwrap()))
            }
        };
        if moment {
            if name == "hangs-at-activate" {
                until_activation_begun(host(name));
            }
            host(name).freeze().unwrap();
            struck = Some(Instant::now());
        }
    });
    assert!(struck.is_some(), "no host came to where it was to hang");

    let came = came.exits(4);
    assert_eq!(came.outcome("well")["outcome"], "activated", "{}", came.outcome("well"));
    assert_eq!(came.outcome("hangs-at-connect")["outcome"], "offline", "{}", came.summary());
    assert_eq!(came.outcome("hangs-at-activate")["outcome"], "activated", "{}", came.summary());
    for (name, stage) in [("hangs-at-wait", "copy"), ("hangs-at-copy", "copy")] {
        let outcome = came.outcome(name);
        assert_eq!((&outcome["outcome"], &outcome["stage"]), (&"failed".into(), &stage.into()), "{outcome}");
        assert_eq!(outcome["reason"], "the connection was lost", "{outcome}");
    }
    for name in hung {
        did_not_wait(&came, "well", name);
    }

    for (name, before) in hung.iter().zip(before) {
        let host = host(name);
        host.heal().unwrap();
        if *name != "hangs-at-activate" {
            host.thaw().unwrap();
            assert_eq!(stands(host), before, "{name} hung before the activation");
            go(host);
        }
        is_sound(host);
    }
    bosco(operator, &fleet, &["apply"]).exits(0);
    for name in hung {
        is_sound(host(name));
    }
}

#[test]
fn an_sshd_that_greets_and_then_says_nothing_is_given_up_in_time() {
    let lab = Lab::up(&LabSpec::named(["mute", "well"])).unwrap();
    let (operator, mute, well) = (lab.operator(), lab.host("mute").unwrap(), lab.host("well").unwrap());
    let fleet = fleet(operator, &["mute", "well"]);
    go(well);
    let greet = "echo SSH-2.0-mute; exec sleep 1000";
    mute.ssh_ok(&format!("systemd-run --quiet /usr/bin/busybox nc -ll -p 2222 -e /bin/sh -c '{greet}'"))
        .unwrap();
    until_greeted(mute);
    let came = Apply::start(operator, &fleet, &[]).ends();
    assert!(matches!(came.code, 4 | 5), "{}", came.summary());
    assert_eq!(came.outcome("well")["outcome"], "activated", "{}", came.summary());
    did_not_wait(&came, "well", "mute");
    let mute = came.seconds("mute");
    assert!(mute < 30.0, "it was given up only after {mute} s: {}", came.outcome("mute"));
}

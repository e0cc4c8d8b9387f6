//! What a configuration says of its activation reaches the system that is built of it, and nothing else does; with real Nix,
//! no machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::forms::{
    ALL, BESIDE_COLMENA, MADE, PLAIN, RAW, WITHOUT_FLAKES, fleet, found, own, read, toplevel,
};
use common::{bosco, json};
use serde_json::{Value, json};
use testbed::Operator;
use testbed::fleet::Fleet;

/// What the host's helper reads.
fn activation(operator: &Operator, fleet: &Fleet<'_>) -> Value {
    let file = format!("{}/etc/bosco/activation.json", toplevel(operator, fleet));
    serde_json::from_str(&read(operator, &file)).unwrap()
}

#[test]
fn checks_of_each_kind_are_written_as_the_host_reads_them() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    own(
        &fleet,
        ALL,
        r#"
        deployment.healthChecks = {
          web.http = "http://127.0.0.1:80/";
          web6.http = "http://[::1]:8080/health?full=1";
          db = { tcp = 5432; timeout = 7; interval = 2; retries = 0; };
          ldap.tcp = "ldap.example.org:389";
          ldap6.tcp = "[fd00::1]:389";
          service.unit = "x";
          dotted.unit = "wg-quick@wg0.1";
          timer.unit = "backup.timer";
          command.command = "test -e /run/x && echo \"y\"";
        };
        "#,
    );
    let check = |kind: &str, value: &str| json!({ kind: value, "timeout": 5, "interval": 1, "retries": 5 });
    let expected = json!({
        "version": 1,
        "activationTimeout": 600,
        "confirmTimeout": 60,
        "reboot": "never",
        "healthChecks": {
            "web": check("http", "http://127.0.0.1:80/"),
            "web6": check("http", "http://[::1]:8080/health?full=1"),
            "db": { "tcp": "127.0.0.1:5432", "timeout": 7, "interval": 2, "retries": 0 },
            "ldap": check("tcp", "ldap.example.org:389"),
            "ldap6": check("tcp", "[fd00::1]:389"),
            "service": check("unit", "x.service"),
            "dotted": check("unit", "wg-quick@wg0.1.service"),
            "timer": check("unit", "backup.timer"),
            "command": check("command", "test -e /run/x && echo \"y\""),
        },
    });
    assert_eq!(activation(&operator, &fleet), expected);
}

#[test]
fn what_differs_from_the_defaults_is_written_with_the_rest() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    for (option, key, value) in [
        ("activationTimeout = 1200", "activationTimeout", json!(1200)),
        ("confirmTimeout = 5", "confirmTimeout", json!(5)),
        ("reboot = \"when-needed\"", "reboot", json!("when-needed")),
    ] {
        own(&fleet, ALL, &format!("deployment.update.{option};"));
        let mut expected = json!({
            "version": 1, "activationTimeout": 600, "confirmTimeout": 60, "reboot": "never", "healthChecks": {},
        });
        expected[key] = value;
        assert_eq!(activation(&operator, &fleet), expected, "{option}");
    }
}

#[test]
fn a_programs_path_in_a_check_is_part_of_the_system() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    own(&fleet, ALL, "deployment.healthChecks.hello.command = \"${pkgs.hello}/bin/hello\";");
    let toplevel = toplevel(&operator, &fleet);
    let command =
        json(&operator, &fleet, &["eval", "nodes.web.config.deployment.healthChecks.hello.command"]);
    let hello = command.as_str().unwrap().trim_end_matches("/bin/hello").to_owned();
    let closure = operator.nix(["path-info", "--recursive", &toplevel]).unwrap();
    assert!(closure.contains(&hello), "{hello} is not in\n{closure}");
}

#[test]
fn a_host_that_uses_none_of_it_is_the_system_that_it_is_without_the_modules() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    for (form, modules) in [(PLAIN, ALL), (MADE, BESIDE_COLMENA), (RAW, BESIDE_COLMENA)] {
        fleet.write("flake.nix", form).unwrap();
        own(&fleet, &[], "");
        let without = toplevel(&operator, &fleet);
        // What is said and is the default anyway is as good as not said.
        own(&fleet, modules, "deployment.update.confirmTimeout = 60; services.bosco.enable = false;");
        assert_eq!(toplevel(&operator, &fleet), without, "{form}");
        assert!(!found(&operator, &format!("{without}/etc/bosco")).exists());
    }
}

#[test]
fn a_host_that_uses_all_of_it_is_the_same_system_in_every_form() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let options = r#"
      deployment.tags = [ "web" ];
      deployment.healthChecks.ssh.unit = "sshd";
      services.bosco.enable = true;
      environment.systemPackages = [ pkgs.hello ];
      boot.kernelParams = [ "quiet" ];
    "#;
    own(&fleet, ALL, options);
    fleet.write("flake.nix", PLAIN).unwrap();
    let expected = toplevel(&operator, &fleet);
    // Where bosco evaluates the hive it brings them along, and a hive that Colmena evaluates as well has them twice.
    for (file, form, modules) in [
        ("flake.nix", MADE, BESIDE_COLMENA),
        ("flake.nix", RAW, &[]),
        ("flake.nix", RAW, BESIDE_COLMENA),
        ("hive.nix", WITHOUT_FLAKES, &[]),
    ] {
        if file == "hive.nix" {
            std::fs::remove_file(fleet.path().join("flake.nix")).unwrap();
        }
        own(&fleet, modules, options);
        fleet.write(file, form).unwrap();
        assert_eq!(toplevel(&operator, &fleet), expected, "{form} with {modules:?}");
        let hosts = json(&operator, &fleet, &["hosts", "--on", "@web"]);
        assert_eq!(hosts[0]["name"], "web");
    }
}

#[test]
fn a_check_that_can_not_be_is_told_by_its_name() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    for (check, why) in [
        (
            "",
            "`deployment.healthChecks.\"a b\"` sets none of `unit`, `http`, `tcp` and `command`: a health check",
        ),
        (
            "unit = \"x\"; tcp = 1;",
            "`deployment.healthChecks.\"a b\"` sets `unit` and `tcp`: a health check is exactly",
        ),
        (
            "unit = \"x\"; http = \"http://x/\"; command = \"true\";",
            "sets `unit`, `http` and `command`: a health check is exactly one of `unit`, `http`, `tcp` and `command`.",
        ),
        (
            "http = \"https://x/\";",
            "`deployment.healthChecks.\"a b\".http` is `https://x/`, and has to be a URL that begins with `http://`. \
             For https take `tcp`, or a `command`.",
        ),
        ("http = \"127.0.0.1/health\";", "http` is `127.0.0.1/health`, and has to be a URL"),
        ("http = \"http://\";", "http` is `http://`, and has to be a URL"),
        ("http = \"http://x/a b\";", "http` is `http://x/a b`, and has to be a URL"),
        ("tcp = \"localhost\";", "tcp` is `localhost`, and has to be a port or `HOST:PORT`"),
        ("tcp = \"fd00::1:389\";", "tcp` is `fd00::1:389`, and has to be a port or `HOST:PORT`"),
        ("tcp = 0;", "tcp` is `0`, and has to be a port or `HOST:PORT`"),
        ("tcp = 70000;", "deployment.healthChecks.\"a b\".tcp' is not of type"),
        ("unit = \"a b\";", "deployment.healthChecks.\"a b\".unit' is not of type"),
        ("command = \"true\"; timeout = 0;", "deployment.healthChecks.\"a b\".timeout' is not of type"),
        ("command = \"true\"; retries = -1;", "deployment.healthChecks.\"a b\".retries' is not of type"),
    ] {
        own(&fleet, ALL, &format!("deployment.healthChecks.\"a b\" = {{ {check} }};"));
        bosco(&operator, &fleet, &["build"]).exits(3).says(why);
    }
    own(&fleet, ALL, "deployment.update.reboot = \"always\";");
    bosco(&operator, &fleet, &["build"]).exits(3).says("deployment.update.reboot' is not of type");
}

#[test]
fn a_host_with_boscos_service_has_what_a_proof_after_a_reboot_takes() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    own(&fleet, ALL, "services.bosco.enable = true; boot.kernelParams = [ \"panic=5\" ];");
    let toplevel = toplevel(&operator, &fleet);
    let read = |file: &str| read(&operator, &format!("{toplevel}/{file}"));

    let unit = read("etc/systemd/system/bosco-boot.service");
    for line in [
        "After=local-fs.target",
        "Before=shutdown.target",
        "ConditionPathExists=/nix/var/bosco/journal.json",
        "ConditionPathExists=/nix/var/nix/gcroots/bosco/helper/bin/bosco",
        "Conflicts=shutdown.target",
        "DefaultDependencies=false",
        "ExecStart=/nix/var/nix/gcroots/bosco/helper/bin/bosco helper boot",
        "Restart=on-failure",
        "RestartSec=1s",
        "StartLimitIntervalSec=0",
        "Type=exec",
        "X-RestartIfChanged=false",
        "X-StopIfChanged=false",
        "X-StopOnRemoval=false",
    ] {
        assert!(unit.lines().any(|is| is == line), "{line} is not in\n{unit}");
    }
    assert!(unit.contains("Environment=\"PATH=/run/current-system/sw/bin:"), "{unit}");
    let wanted = format!("{toplevel}/etc/systemd/system/multi-user.target.wants/bosco-boot.service");
    assert!(found(&operator, &wanted).is_file(), "{wanted}");

    let params = read("kernel-params");
    let params: Vec<_> = params.split(' ').collect();
    assert!(params.contains(&"systemd.watchdog_sec=60"), "{params:?}");
    let place = |param: &str| params.iter().position(|is| *is == param).unwrap();
    assert!(place("panic=30") < place("panic=5"), "the last one counts, which is the host's own: {params:?}");
    let conf = read("etc/systemd/system.conf");
    assert!(conf.starts_with("[Manager]\n") && conf.contains("RuntimeWatchdogSec=60\n"), "{conf}");

    let command = read("sw/bin/bosco");
    assert!(command.contains("exec /nix/var/nix/gcroots/bosco/helper/bin/bosco \"$@\""), "{command}");
}

#[test]
fn a_hosts_own_watchdog_and_bosco_win() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    let package = "environment.systemPackages = lib.mkOrder 2000 [ (pkgs.writeShellScriptBin \"bosco\" \"echo the real one\") ];";
    // The older name is an alias, as NixOS has it since 25.11.
    for option in [
        "systemd.settings.Manager.RuntimeWatchdogSec = \"1min 30s\";",
        "systemd.watchdog.runtimeTime = \"1min 30s\";",
    ] {
        own(&fleet, ALL, &format!("services.bosco.enable = true; {package} {option}"));
        let toplevel = toplevel(&operator, &fleet);
        let params = read(&operator, &format!("{toplevel}/kernel-params"));
        assert!(params.contains("systemd.watchdog_sec=1min30s"), "{params}");
        let conf = read(&operator, &format!("{toplevel}/etc/systemd/system.conf"));
        assert!(conf.contains("RuntimeWatchdogSec=1min 30s\n"), "{conf}");
        let command = read(&operator, &format!("{toplevel}/sw/bin/bosco"));
        assert!(command.contains("echo the real one"), "{command}");
    }
}

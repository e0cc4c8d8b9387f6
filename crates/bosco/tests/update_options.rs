//! What a configuration says of when its host updates reaches a release and no system, and bosco's agent and hub are the
//! units that they should be; with real Nix, no machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use bosco_model::{Declaration, Mode, Policy, Window};
use common::forms::{ALL, BESIDE_COLMENA, MADE, PLAIN, RAW, WITHOUT_FLAKES, fleet, own, read, toplevel};
use common::{bosco, repository};
use testbed::Operator;
use testbed::fleet::Fleet;

/// What `package` is here: nothing of it is run.
const PACKAGE: &str = "package = pkgs.hello;";

/// What bosco reads of the host: where it is part of a plain flake.
fn declared(operator: &Operator, fleet: &Fleet<'_>) -> Declaration {
    let evaluate = repository().join("nix/evaluate.nix").canonicalize().unwrap();
    let expression = format!(
        "(import {} {{ host = \"web\"; condition = null; system = true; operator = \"ada\"; }} \
         {{ nodes = (builtins.getFlake \"git+file://{}\").nixosConfigurations; }}).selected",
        evaluate.display(),
        fleet.path().display()
    );
    let said = operator.nix(["eval", "--impure", "--json", "--expr", &expression]).unwrap();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Fails unless a unit has each of these lines.
#[track_caller]
fn has(unit: &str, lines: &[&str]) {
    for line in lines {
        assert!(unit.lines().any(|is| is == *line), "{line} is not in\n{unit}");
    }
}

#[test]
fn when_a_host_updates_is_read_from_its_configuration_and_changes_no_system() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    let agent = format!("services.bosco.agent = {{ enable = true; {PACKAGE} }};");

    own(&fleet, &[], "");
    let plain = declared(&operator, &fleet);
    assert_eq!((plain.host.mode, plain.policy), (Mode::Push, Policy::default()), "without bosco's modules");
    own(&fleet, ALL, "");
    let with = declared(&operator, &fleet);
    assert_eq!((with.host.mode, with.policy), (Mode::Push, Policy::default()));
    assert_eq!(with.toplevel, plain.toplevel);

    own(&fleet, ALL, &agent);
    let before = declared(&operator, &fleet);
    assert_eq!((before.host.mode, before.policy), (Mode::Both, Policy::default()));
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMvS+Jt0Wbg2EXkkgXlJ8T7nEQm0dZ2hjvbMr1k8mCzV";
    own(
        &fleet,
        ALL,
        &format!(
            "{agent} deployment.publicKeys = [ \"{key} root@web\" ];
            deployment.update = {{
              mode = \"pull\";
              interval = 60;
              onBattery = false;
              onMetered = false;
              windows = [
                {{ days = [ \"saturday\" \"sunday\" ]; from = \"00:00\"; to = \"23:59\"; }}
                {{ from = \"22:30\"; to = \"08:09\"; }}
              ];
            }};"
        ),
    );
    let said = declared(&operator, &fleet);
    let window = |days: &[u8], from, to| Window { days: days.to_vec(), from, to };
    let policy = Policy {
        interval: 60,
        on_battery: false,
        on_metered: false,
        windows: vec![window(&[5, 6], 0, 1439), window(&[], 1350, 489)],
    };
    assert_eq!((said.host.mode, said.policy), (Mode::Pull, policy));
    assert_eq!(said.host.public_keys, [format!("{key} root@web")]);
    assert_eq!(said.toplevel, before.toplevel);
}

#[test]
fn what_can_not_be_meant_is_refused_with_what_to_do() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    let agent = format!("services.bosco.agent.enable = true; services.bosco.agent.{PACKAGE}");
    let hub = format!("services.bosco.hub.enable = true; services.bosco.hub.{PACKAGE}");
    for (options, why) in [
        (
            "deployment.update.mode = \"pull\";".to_owned(),
            "`deployment.update.mode` is `pull`, and nothing on the host would fetch a release",
        ),
        (
            "deployment.update.windows = [ { from = \"08:00\"; to = \"09:00\"; } { from = \"02:00\"; to = \"02:00\"; } ];"
                .to_owned(),
            "`deployment.update.windows`: the 2. one begins and ends at 02:00, so it is never open",
        ),
        ("deployment.update.windows = [ { from = \"8:00\"; to = \"09:00\"; } ];".to_owned(), "is not of type"),
        ("deployment.update.windows = [ { from = \"08:00\"; to = \"24:00\"; } ];".to_owned(), "is not of type"),
        (
            "deployment.update.windows = [ { days = [ \"Mon\" ]; from = \"08:00\"; to = \"09:00\"; } ];".to_owned(),
            "is not of type",
        ),
        ("deployment.publicKeys = [ \"/etc/ssh/ssh_host_ed25519_key.pub\" ];".to_owned(), "is not of type"),
        ("services.bosco.agent.enable = true;".to_owned(), "`services.bosco.agent.package` is not set"),
        (
            format!("{agent} deployment.update.mode = \"push\";"),
            "`deployment.update.mode` is `push`, and `services.bosco.agent.enable` is set",
        ),
        (
            format!("{agent} services.bosco.agent.identity = \"${{./hosts.nix}}\";"),
            "has to be the path of a file outside of the store: it is a private key",
        ),
        ("services.bosco.hub.enable = true;".to_owned(), "`services.bosco.hub.package` is not set"),
        (hub.clone(), "`services.bosco.hub.fleetFile` is not set"),
        (
            format!("{hub} services.bosco.hub = {{ fleetFile = ./hosts.nix; port = 22; }};"),
            "`services.bosco.hub.port` is 22, which the machine's own sshd has",
        ),
        (
            format!("{hub} services.bosco.hub = {{ fleetFile = ./hosts.nix; stateDir = \"/nix/store/x\"; }};"),
            "the hub can't write to the store",
        ),
    ] {
        own(&fleet, ALL, &options);
        bosco(&operator, &fleet, &["build"]).exits(3).says(why);
    }
}

#[test]
fn an_agent_is_the_same_system_in_every_form() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let options = format!("services.bosco.agent = {{ enable = true; {PACKAGE} }};");
    own(&fleet, ALL, &options);
    fleet.write("flake.nix", PLAIN).unwrap();
    let expected = toplevel(&operator, &fleet);
    for (file, form, modules) in [
        ("flake.nix", MADE, BESIDE_COLMENA),
        ("flake.nix", RAW, &[]),
        ("flake.nix", RAW, BESIDE_COLMENA),
        ("hive.nix", WITHOUT_FLAKES, &[]),
    ] {
        if file == "hive.nix" {
            std::fs::remove_file(fleet.path().join("flake.nix")).unwrap();
        }
        own(&fleet, modules, &options);
        fleet.write(file, form).unwrap();
        assert_eq!(toplevel(&operator, &fleet), expected, "{form} with {modules:?}");
    }
}

#[test]
fn an_agent_is_a_unit_that_a_switch_may_restart() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    let unit = |more: &str, name: &str| {
        own(&fleet, ALL, &format!("services.bosco.agent = {{ enable = true; {PACKAGE} {more} }};"));
        let toplevel = toplevel(&operator, &fleet);
        read(&operator, &format!("{toplevel}/etc/systemd/system/{name}"))
    };
    let hello = || {
        let said = common::json(&operator, &fleet, &["eval", "\"${pkgs.hello}\""]);
        said.as_str().unwrap().to_owned()
    };

    let daemon = unit("", "bosco-agent.service");
    let (bosco, helper) = (
        format!("{}/bin/bosco", hello()),
        format!("{}/libexec/bosco/helpers/x86_64-linux/bosco-helper/bin/bosco", hello()),
    );
    let words = "--host web --identity /etc/ssh/ssh_host_ed25519_key";
    has(
        &daemon,
        &[
            &format!("ExecStart={bosco} agent {words} --helper {helper} --page-port 9999"),
            "ConditionPathExists=/nix/var/bosco/trust.json",
            "Type=notify",
            "WatchdogSec=2min",
            "Restart=always",
            "RestartMaxDelaySec=2min",
            "StartLimitIntervalSec=0",
            "X-StopIfChanged=false",
            "WantedBy=multi-user.target",
            "Environment=\"NIX_REMOTE=daemon\"",
            "ProtectSystem=strict",
            "NoNewPrivileges=true",
        ],
    );
    assert!(!daemon.contains("X-RestartIfChanged"), "a new agent is to take its place:\n{daemon}");

    has(&unit("", "bosco-agent.path"), &["PathChanged=/nix/var/bosco/trust.json", "WantedBy=paths.target"]);

    let quiet = unit("page.enable = false; host = \"other\";", "bosco-agent.service");
    let words = "--host other --identity /etc/ssh/ssh_host_ed25519_key";
    has(&quiet, &[&format!("ExecStart={bosco} agent {words} --helper {helper} --no-page")]);

    let words = "--host web --identity /etc/ssh/ssh_host_ed25519_key";
    let timed = unit("timer = \"*:0/15\"; helper = \"/h\";", "bosco-agent.service");
    has(
        &timed,
        &[
            &format!("ExecStart={bosco} agent {words} --helper /h --once"),
            "Type=exec",
            "SuccessExitStatus=5",
            "WantedBy=multi-user.target",
        ],
    );
    assert!(!timed.contains("Restart="), "{timed}");
    let timer = unit("timer = \"*:0/15\";", "bosco-agent.timer");
    has(&timer, &["OnCalendar=*:0/15", "Persistent=true", "WantedBy=timers.target"]);
}

#[test]
fn a_hub_is_a_unit_with_nothing_but_its_folder() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("flake.nix", PLAIN).unwrap();
    fleet.write("bosco.toml", "fleet = \"home\"\n").unwrap();
    let build = |more: &str| {
        let options = format!("enable = true; {PACKAGE} fleetFile = ./bosco.toml; {more}");
        own(
            &fleet,
            ALL,
            &format!("networking.firewall.enable = true; services.bosco.hub = {{ {options} }};"),
        );
        toplevel(&operator, &fleet)
    };
    let unit = |toplevel: &str| read(&operator, &format!("{toplevel}/etc/systemd/system/bosco-hub.service"));

    let toplevel = build("openFirewall = true;");
    let first = unit(&toplevel);
    let started = |unit: &str| unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap().to_owned();
    assert!(
        started(&first).ends_with(
            "/bin/bosco hub --state /var/lib/bosco-hub --listen '[::]:2222' --fleet /etc/bosco/fleet.toml"
        ),
        "{first}"
    );
    has(
        &first,
        &[
            "User=bosco-hub",
            "StateDirectory=bosco-hub",
            "StateDirectoryMode=0700",
            "CapabilityBoundingSet=",
            "ProtectSystem=strict",
            "MemoryDenyWriteExecute=true",
            "SystemCallFilter=@system-service",
            "RestrictAddressFamilies=AF_INET",
            "LimitNOFILE=524288",
        ],
    );
    assert!(first.contains("ExecReload=") && first.contains("-HUP $MAINPID"), "{first}");
    assert_eq!(read(&operator, &format!("{toplevel}/etc/bosco/fleet.toml")), "fleet = \"home\"\n");

    // Another fleet file is read again, and ends nothing.
    fleet.write("bosco.toml", "fleet = \"home\"\ntrust = 2\n").unwrap();
    let second = unit(&build("openFirewall = true;"));
    let without_trigger =
        |unit: &str| unit.lines().filter(|line| !line.starts_with("X-Reload-Triggers=")).collect::<String>();
    assert_ne!(first, second);
    assert_eq!(without_trigger(&first), without_trigger(&second));

    let low = unit(&build("port = 443; listenAddress = \"fd00::1\"; stateDir = \"/srv/hub\";"));
    assert!(started(&low).contains(" --state /srv/hub --listen '[fd00::1]:443' "), "{low}");
    has(&low, &["AmbientCapabilities=CAP_NET_BIND_SERVICE", "ReadWritePaths=/srv/hub"]);
    assert!(!low.contains("StateDirectory"), "{low}");
}

//! A hive without flakes is deployed to real machines, and what it says of keys holds there.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, state};
use testbed::fleet::create;
use testbed::{Host, Lab, LabSpec};

/// Waits until a unit is in a state.
fn until(host: &Host, unit: &str, state: &str) {
    let look = format!("$(systemctl is-active {unit})");
    let wait = format!("for try in $(seq 100); do [ \"{look}\" = {state} ] && exit; sleep 0.1; done");
    host.ssh_ok(&format!("{wait}; systemctl status {unit}; exit 1")).unwrap();
}

#[test]
fn a_hive_without_flakes_is_deployed_and_a_keys_unit_is_active_while_the_key_is_there() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = create(operator, "keys").unwrap();
    let hive = |greeting: &str| {
        let keys = "token = { text = \"x\"; user = \"nobody\"; }; late = { text = \"y\"; uploadAt = \"post-activation\"; }; \
                    filed = { text = \"z\"; name = \"file.key\"; };";
        let etc = format!(
            "environment.etc.greeting.text = \"{greeting}\"; \
             system.activationScripts.look = \"cd /run/keys; echo * > /run/saw\";"
        );
        let common = "services.openssh.enable = true; system.stateVersion = \"26.05\";";
        let host1 = format!(
            "{{ name, ... }}: {{ networking.hostName = name; deployment.keys = {{ {keys} }}; {etc} }}"
        );
        format!("{{ defaults = {{ {common} }}; host1 = {host1}; }}")
    };
    fleet.write("hive.nix", &hive("one")).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0).says("1 committed: host1").says("last until it reboots");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
    until(host, "token-key.path", "active");
    until(host, "token-key.service", "active");
    assert_eq!(host.ssh_ok("stat -c %U /run/keys/token; cat /run/keys/token").unwrap(), "nobody\nx");
    until(host, "late-key.service", "active");
    assert_eq!(host.ssh_ok("cat /run/keys/file.key").unwrap(), "z");
    assert_eq!(host.ssh_ok("cat /run/saw").unwrap(), "file.key token\n", "what comes before, and what after");

    host.ssh_ok("rm /run/keys/token").unwrap();
    until(host, "token-key.service", "activating");
    // Whatever is activated next brings it again.
    fleet.write("hive.nix", &hive("two")).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0).says("1 committed: host1");
    until(host, "token-key.service", "active");
}

#[test]
fn a_hives_machines_file_says_who_builds() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let operator = lab.operator();
    let fleet = create(operator, "builders").unwrap();
    // Only the host has the feature: nobody else can build it.
    let machine = format!("ssh://root@host1 x86_64-linux {} 1 1 bread\n", operator.ssh_key().display());
    fleet.write("machines", &machine).unwrap();
    let loaf = "environment.etc.loaf.source = pkgs.runCommand \"loaf\" { requiredSystemFeatures = [ \"bread\" ]; } \"echo baked > $out\";";
    let hive = |machines: &str, loaf: &str| {
        format!(
            "{{ meta = {{ {machines} }}; host1 = {{ pkgs, ... }}: {{ services.openssh.enable = true; \
             nix.settings.system-features = [ \"bread\" ]; system.stateVersion = \"26.05\"; {loaf} }}; }}"
        )
    };
    fleet.write("hive.nix", &hive("", "")).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0);
    fleet.write("hive.nix", &hive("", loaf)).unwrap();
    bosco(operator, &fleet, &["build"]).exits(3).says("bread");
    fleet.write("hive.nix", &hive("machinesFile = ./machines;", loaf)).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0).says("1 committed: host1");
    assert_eq!(lab.host("host1").unwrap().ssh_ok("cat /etc/loaf").unwrap(), "baked\n");
}

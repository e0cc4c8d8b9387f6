//! The service of bosco's module on a host is there at a boot, and no switch has anything to do with it; on a real machine.
//! A script stands in for the helper.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use common::bosco;
use testbed::fleet::{Fleet, sample};
use testbed::{Host, Lab, LabSpec, Operator, Unsynced};

const ROOTS: &str = "/nix/var/nix/gcroots/bosco";
/// Where the stand-in says that it was called.
const CALLS: &str = "/run/helper-calls";
/// Far more than a boot takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Builds the host with these options, and brings the system to it.
fn bring(operator: &Operator, fleet: &Fleet<'_>, options: &str) -> String {
    fleet.write("host1.nix", &format!("{{ imports = [ ./host.nix ]; {options} }}")).unwrap();
    let said = bosco(operator, fleet, &["build", "--on", "host1"]).exits(0);
    let words = || said.out.split_whitespace().chain(said.err.split_whitespace());
    let toplevel = words().find(|word| word.starts_with("/nix/store/")).unwrap().to_owned();
    operator.nix(["copy", "--no-check-sigs", "--to", "ssh://host1", &toplevel]).unwrap();
    toplevel
}

fn switch(host: &Host, toplevel: &str) {
    let profile = "/nix/var/nix/profiles/system";
    let script = format!(
        "nix-env --profile {profile} --set {toplevel} && {toplevel}/bin/switch-to-configuration switch 2>&1"
    );
    host.ssh_ok(&script).unwrap();
}

fn ask(host: &Host, script: &str) -> String {
    host.ssh_ok(script).unwrap().trim().to_owned()
}

fn state(host: &Host) -> String {
    ask(host, "systemctl is-active bosco-boot.service || :")
}

fn calls(host: &Host) -> usize {
    ask(host, &format!("cat {CALLS} 2>/dev/null || :")).lines().count()
}

fn until_called(host: &Host, times: usize) {
    ask(
        host,
        &format!(
            "for try in $(seq 300); do [ $(wc -l < {CALLS}) = {times} ] && exit; sleep 0.1; done; exit 1"
        ),
    );
}

/// What keeps a boot from getting anywhere until the helper has been called.
fn gate() -> String {
    format!(
        "systemd.services.gate = {{
          wantedBy = [ \"sysinit.target\" ];
          before = [ \"sysinit.target\" ];
          unitConfig = {{ DefaultDependencies = false; ConditionPathExists = \"/root/gate\"; }};
          serviceConfig = {{ Type = \"oneshot\"; RemainAfterExit = true; TimeoutStartSec = \"infinity\"; }};
          script = \"until [ -e {CALLS} ]; do sleep 0.1; done\";
        }};"
    )
}

#[test]
fn boscos_service_is_there_early_at_a_boot_and_no_switch_touches_it() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "plain").unwrap();
    let module = std::fs::read_to_string(common::repository().join("nix/modules/host.nix")).unwrap();
    fleet.write("host.nix", &module).unwrap();
    let with = bring(operator, &fleet, &format!("services.bosco.enable = true; {}", gate()));
    let changed = bring(
        operator,
        &fleet,
        &format!(
            "services.bosco.enable = true; systemd.services.bosco-boot.environment.CHANGED = \"yes\"; {}",
            gate()
        ),
    );
    let without = bring(operator, &fleet, "");

    // Before there is a helper: nothing to start, and the command says so.
    switch(host, &with);
    assert_eq!(state(host), "inactive");
    let none = host.ssh("bosco status").unwrap();
    assert_eq!(none.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no helper is on this host yet"), "{none:?}");

    ask(
        host,
        &format!(
            "mkdir -p {ROOTS} /nix/var/bosco /root/helper/bin && ln -sfn /root/helper {ROOTS}/helper && \
             printf '#!/bin/sh\\necho \"$*\" >> {CALLS}\\n[ \"$1\" = helper ] || exit 0\\nexec sleep infinity\\n' \
             > /root/helper/bin/bosco && chmod +x /root/helper/bin/bosco && echo '{{}}' > /nix/var/bosco/journal.json"
        ),
    );
    // A switch that belongs to an activation, with a journal of this very boot: targets are started anew.
    ask(host, "systemd-run --quiet --unit=bosco-activation sleep infinity");
    switch(host, &changed);
    switch(host, &with);
    assert_eq!((state(host).as_str(), calls(host)), ("inactive", 0));
    ask(host, "systemctl stop bosco-activation && touch /root/gate && sync");

    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(LIMIT).unwrap();
    assert_eq!(ask(host, "readlink /run/booted-system"), with);
    until_called(host, 1);
    assert_eq!(ask(host, &format!("cat {CALLS}")), "helper boot");
    // However it is ended, and however often, it comes back.
    for times in 2..8 {
        ask(host, "systemctl kill -s KILL bosco-boot");
        until_called(host, times);
    }
    let process = || ask(host, "systemctl show --value -p MainPID bosco-boot");
    let before = process();
    for toplevel in [&changed, &with, &without] {
        switch(host, toplevel);
        assert_eq!(
            (state(host).as_str(), process()),
            ("active", before.clone()),
            "after a switch to {toplevel}"
        );
    }
}

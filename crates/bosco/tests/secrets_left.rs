//! What a host is not to have any more it does not have, and what can be had is there after every boot.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use common::{bosco, fleet_of_web};
use testbed::sops::encrypted;
use testbed::{Lab, LabSpec, Unsynced};

/// Far more than a boot takes.
const LIMIT: Duration = Duration::from_secs(120);

/// What every system of the tests says.
const HOST: &str =
    r#"services.openssh.enable = true; networking.hostName = "web"; system.stateVersion = "26.05";"#;

/// Two services that want to know of a secret, a user with a password, and a key on the disk.
const OWN: &str = r#"
  sops.secrets.token.restartUnits = [ "runs.service" "waits.service" ];
  systemd.services.runs = {
    wantedBy = [ "multi-user.target" ];
    path = [ pkgs.coreutils ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = "cat /run/secrets/token > /run/saw";
  };
  systemd.services.waits = {
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = "true";
  };
"#;

#[test]
fn what_a_host_is_not_to_have_any_more_goes_and_what_can_be_had_is_there_after_a_boot() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let (operator, host) = (lab.operator(), lab.host("web").unwrap());
    let fleet = fleet_of_web(operator);
    let own = |more: &str| {
        let text = format!(
            "let modules = ((import ./bosco/flake.nix).outputs {{ }}).nixosModules; in\n\
             {{ pkgs, lib, config, ... }}: {{ imports = [ modules.default modules.sops ];\n\
             sops.defaultSopsFile = ./web.yaml; {HOST}\n\
             deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};\n{OWN}\n{more}\n}}\n"
        );
        fleet.write("web.nix", &text).unwrap();
    };
    let encrypt = |token: &str| {
        let values = [("token", token), ("hash", "hash-in-clear"), ("other", "other-in-clear")];
        fleet.write("web.yaml", &encrypted(&values, &[&host.public_key().unwrap()]).unwrap()).unwrap();
    };
    let apply = |more: &[&str]| bosco(operator, &fleet, &[&["apply"], more].concat());
    let ssh = |script: &str| host.ssh_ok(script).unwrap();

    let more = "sops.secrets.hash.neededForUsers = true; sops.secrets.other.path = \"/var/lib/app/other\";
        deployment.keys.disk = { text = \"disk-in-clear\"; destDir = \"/var/lib/keys\"; };";
    own(more);
    encrypt("token-in-clear");
    apply(&[]).exits(0).says("1 committed: web");
    ssh("test -e /var/lib/keys/disk && test -e /run/secrets-for-users/hash && test -e /var/lib/app/other");

    // What does not run is not started by another secret: it waits for its timer, say.
    encrypt("token-2-in-clear");
    apply(&[]).exits(0).says("1 committed: web");
    assert_eq!(ssh("cat /run/saw"), "token-2-in-clear");
    ssh("! systemctl is-active waits.service");

    // A boot, by which some of them go; and one is nobody's.
    own("sops.secrets.other.owner = \"ghost\"; sops.secrets.other.group = \"root\";");
    apply(&["--goal", "boot"]).exits(0);
    ssh("test -e /var/lib/keys/disk");
    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_ssh(LIMIT).unwrap();
    ssh("systemctl is-system-running --wait; true");
    ssh(
        "! test -e /var/lib/keys/disk && ! test -e /run/secrets-for-users/hash && ! test -L /var/lib/app/other",
    );
    assert_eq!(ssh("cat /run/saw"), "token-2-in-clear");
    ssh("systemctl is-active token-key.service && ! test -e /run/secrets/other");
    ssh("systemctl status other-key.service | grep -q 'there is no user `ghost` on this host'");

    // A system without bosco's modules has none of it.
    fleet.write("web.nix", &format!("{{ {HOST} }}")).unwrap();
    apply(&[]).exits(0).says("1 committed: web");
    ssh("! test -e /run/secrets && ! test -e /run/secrets.d/1 && ! ls /run/secrets.d/* | grep -q .");
}

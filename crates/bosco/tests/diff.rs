//! What an apply would change is said before, the same for what is known here and for what only the host knows.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{at_terminal, bosco, json, stands, toplevel_of};
use testbed::{Lab, LabSpec, fleet};

/// Two hosts that are the same but for their names.
const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations = builtins.listToAttrs (map (name: {
      inherit name;
      value = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [ ./common.nix { networking.hostName = name; } ];
      };
    }) [ "host1" "host2" ]);
  };
}"#;

/// What they have in common.
fn common_nix(version: &str, argument: &str, more: &str) -> String {
    format!(
        r#"{{ pkgs, lib, ... }}: {{
  services.openssh.enable = true;
  system.stateVersion = "26.05";
  environment.systemPackages = [ (pkgs.runCommand "tool-{version}" {{ }} "mkdir -p $out/bin; echo {version} > $out/bin/tool") ];
  systemd.services.worker = {{
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "${{pkgs.busybox}}/bin/sleep {argument}";
  }};
  {more}
}}"#
    )
}

#[test]
fn what_an_apply_would_change_is_said_once_for_all_hosts_and_is_what_it_does() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = fleet::create(operator, "fleet").unwrap();
    fleet.write("flake.nix", FLAKE).unwrap();
    let gone = "systemd.services.gone = { wantedBy = [ \"multi-user.target\" ]; serviceConfig.ExecStart = \"${pkgs.busybox}/bin/sleep 1000000\"; };";
    fleet.write("common.nix", &common_nix("1.0", "1000000", gone)).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0).says("2 committed: host1, host2");
    bosco(operator, &fleet, &["diff"]).exits(0).says("nothing changes on host1, host2");

    let fresh = "systemd.services.fresh = { wantedBy = [ \"multi-user.target\" ]; serviceConfig.ExecStart = \"${pkgs.busybox}/bin/sleep 1000000\"; };\n\
                 boot.kernelParams = [ \"quiet\" ];";
    fleet.write("common.nix", &common_nix("1.1", "2000000", fresh)).unwrap();
    let before = stands(host);
    let check = || {
        let said = bosco(operator, &fleet, &["diff"]).exits(0);
        said.says("host1, host2: ")
            .says("tool 1.0 → 1.1")
            .says("restart: worker.service")
            .says("stop: gone.service")
            .says("start: fresh.service")
            .says("reboot needed: kernel-params")
            .does_not_say("not known");
    };
    check();
    assert_eq!(stands(host), before, "it changes nothing");
    let said = bosco(operator, &fleet, &["apply", "--on", "host1", "--goal", "dry-activate"]).exits(0);
    said.says("gone.service").says("worker.service");

    // What runs is gone from the store here: the hosts are asked.
    for name in ["host1", "host2"] {
        let runs = toplevel_of(lab.host(name).unwrap());
        let deleted = operator.command("nix-store").args(["--delete", &runs]).output().unwrap();
        assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    }
    check();

    let answer = json(operator, &fleet, &["diff", "host2"]);
    assert_eq!(answer["hosts"][0]["host"], "host2", "{answer}");
    let difference = &answer["hosts"][0]["difference"];
    assert_eq!(difference["packages"][0]["name"], "tool", "{answer}");
    assert_eq!(difference["packages"][0]["after"], serde_json::json!(["1.1"]), "{answer}");
    assert_eq!(difference["reboot"], serde_json::json!(["kernel-params"]), "{answer}");

    // At a terminal, a whole fleet is changed only after a yes.
    let apply = |args: &str, answers: &[(&str, &str)]| {
        at_terminal(operator, &fleet, &format!("apply {args}"), answers)
    };
    let question = "go on? [Y/n]";
    let said = apply("", &[(question, "n\n")]).exits(4);
    said.says("tool 1.0 → 1.1").says("nothing was changed");
    assert_eq!(stands(host), before, "a no changes nothing");
    apply("host2 --goal push", &[]).exits(0).does_not_say(question);
    apply("", &[(question, "\n")]).exits(0).says("committed");
    assert_ne!(stands(host), before);
    bosco(operator, &fleet, &["diff", "host1"]).exits(0).says("nothing changes on host1");
    bosco(operator, &fleet, &["diff", "1", "host1"]).exits(2).says("--on");
}

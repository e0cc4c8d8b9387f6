//! The person at the keyboard evaluates, builds and copies with a Nix of their own, without any network.

use std::time::Duration;

use testbed::{Lab, LabSpec, Operator, fleet, run_ok};

const BUILD: Duration = Duration::from_secs(120);

const FLEET: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { self, nixpkgs }: {
    nixosConfigurations.host1 = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ { networking.hostName = "host1"; services.openssh.enable = true; } ];
    };
  };
}"#;
const TOPLEVEL: &str = ".#nixosConfigurations.host1.config.system.build.toplevel";

#[test]
fn an_operator_alone_builds_a_fleet_and_leaves_nothing_behind() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet::create(&operator, "fleet").unwrap();
    fleet.write("flake.nix", FLEET).unwrap();
    fleet.commit().unwrap();
    let mut build = operator.command("nix");
    build.current_dir(fleet.path()).args(["build", "--no-link", "--print-out-paths", TOPLEVEL]);
    let toplevel = run_ok(&mut build, BUILD).unwrap();
    let inside = operator.store().join(toplevel.trim().trim_start_matches('/'));
    assert!(inside.join("bin/switch-to-configuration").is_symlink() || inside.join("bin").is_dir());

    let other = Operator::alone().unwrap();
    assert!(!other.store().join(toplevel.trim().trim_start_matches('/')).exists(), "operators share a store");
    let dir = operator.dir().to_path_buf();
    drop(operator);
    assert!(!dir.exists());
    assert!(!other.nix(["eval", "--raw", "nixpkgs#lib.version"]).unwrap().is_empty());
}

#[test]
fn what_an_operator_builds_can_be_copied_to_a_host_and_switched_to() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), &lab.hosts()[0]);
    let fleet = fleet::create(operator, "fleet").unwrap();
    fleet.write("flake.nix", FLEET).unwrap();
    let nix = |args: &[&str]| {
        run_ok(operator.command("nix").current_dir(fleet.path()).args(args), BUILD).unwrap().trim().to_owned()
    };
    let toplevel = nix(&["build", "--no-link", "--print-out-paths", TOPLEVEL]);
    nix(&["copy", "--to", "ssh://host1", &toplevel]);
    host.ssh_ok(&format!("{toplevel}/bin/switch-to-configuration test")).unwrap();
    assert_eq!(host.ssh_ok("readlink /run/current-system").unwrap().trim(), toplevel);
}

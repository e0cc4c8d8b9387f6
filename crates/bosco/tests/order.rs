//! Hosts that others wait for go first, and where they fail, the others are left alone.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, toplevel_of};
use testbed::{Lab, LabSpec, fleet};

/// Two hosts; `web` goes after `db`.
const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations = builtins.listToAttrs (map (name: {
      inherit name;
      value = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          { networking.hostName = name; services.openssh.enable = true; system.stateVersion = "26.05"; }
          ((import ./bosco/flake.nix).outputs { }).nixosModules.default
          (./. + "/${name}.nix")
        ];
      };
    }) [ "db" "web" ]);
  };
}"#;

#[test]
fn a_host_is_brought_after_those_it_waits_for_and_left_alone_where_one_of_them_fails() {
    let lab = Lab::up(&LabSpec::named(["db", "web"])).unwrap();
    let (operator, db, web) = (lab.operator(), lab.host("db").unwrap(), lab.host("web").unwrap());
    let fleet = fleet::create(operator, "fleet").unwrap();
    fleet.add_bosco().unwrap();
    fleet.write("flake.nix", FLAKE).unwrap();
    let of_db = |more: &str| {
        fleet.write("db.nix", &format!("{{ deployment.tags = [ \"database\" ]; {more} }}")).unwrap();
    };
    let of_web = |more: &str| {
        fleet.write("web.nix", &format!("{{ deployment.after = [ \"@database\" ]; {more} }}")).unwrap();
    };

    of_db("");
    of_web("");
    bosco(operator, &fleet, &["apply"]).exits(0).says("2 committed: db, web");
    let switched = |host: &testbed::Host| {
        host.ssh_ok("stat -c %Y /nix/var/nix/profiles/system").unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(switched(db) <= switched(web), "web was committed before db");

    let before = toplevel_of(web);
    of_db("deployment.healthChecks.never = { command = \"false\"; retries = 0; };");
    of_web("environment.etc.greeting.text = \"two\";");
    bosco(operator, &fleet, &["apply"]).exits(4).says("web: not deployed: waits for db, which was reverted");
    assert_eq!(toplevel_of(web), before, "web was touched");

    // Who is not selected is not waited for.
    bosco(operator, &fleet, &["apply", "web"]).exits(0).says("1 committed: web");

    of_db("deployment.after = [ \"web\" ];");
    bosco(operator, &fleet, &["apply"])
        .exits(3)
        .says("hosts wait for one another in a circle: db after web after db");
    of_db("deployment.after = [ \"wbe\" ];");
    bosco(operator, &fleet, &["apply"]).exits(3).says("its `deployment.after`: no host is called `wbe`");
}

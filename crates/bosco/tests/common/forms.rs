//! A fleet of one host, in each of the forms that a fleet comes in, that uses bosco's modules.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use testbed::Operator;
use testbed::fleet::{Fleet, create};

use super::bosco;

/// The one host of the fleets here, in each of their forms. `own.nix` is what a test wants in it.
pub const HOSTS: &str = r#"pkgs: {
  meta.nixpkgs = pkgs;
  defaults = { services.openssh.enable = true; system.stateVersion = "26.05"; };
  web = { imports = [ ./own.nix ]; networking.hostName = "web"; };
}"#;
pub const RAW: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: { colmena = import ./hosts.nix (import nixpkgs { system = "x86_64-linux"; }); };
}"#;
pub const MADE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.colmena.url = "colmena";
  outputs = { nixpkgs, colmena, ... }: {
    colmenaHive = colmena.lib.makeHive (import ./hosts.nix (import nixpkgs { system = "x86_64-linux"; }));
  };
}"#;
pub const PLAIN: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }:
    let
      pkgs = import nixpkgs { system = "x86_64-linux"; };
      hive = import ./hosts.nix pkgs;
    in {
      nixosConfigurations.web = nixpkgs.lib.nixosSystem {
        modules = [ { nixpkgs.pkgs = pkgs; } hive.defaults hive.web ];
      };
    };
}"#;
pub const WITHOUT_FLAKES: &str = "import ./hosts.nix (import <nixpkgs> { })";

/// bosco's modules by their names in its flake, as a fleet has them.
pub const ALL: &[&str] = &["default"];
/// What Colmena does not declare.
pub const BESIDE_COLMENA: &[&str] = &["activation", "host", "agent", "hub"];

/// A fleet of one host, with bosco's flake in it.
pub fn fleet(operator: &Operator) -> Fleet<'_> {
    let fleet = create(operator, "fleet").unwrap();
    fleet.add_bosco().unwrap();
    fleet.write("hosts.nix", HOSTS).unwrap();
    fleet
}

/// Gives the host some of bosco's modules, and what it says.
pub fn own(fleet: &Fleet<'_>, modules: &[&str], options: &str) {
    let imports: String = modules.iter().map(|name| format!(" modules.{name}")).collect();
    let text = format!(
        "let modules = ((import ./bosco/flake.nix).outputs {{ }}).nixosModules;\n\
         in {{ pkgs, lib, ... }}: {{ imports = [{imports} ]; {options} }}"
    );
    fleet.write("own.nix", &text).unwrap();
}

/// The host's toplevel, by building it.
pub fn toplevel(operator: &Operator, fleet: &Fleet<'_>) -> String {
    let said = bosco(operator, fleet, &["build", "--json"]).exits(0);
    let mut events = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ended = events.find(|event| event["event"] == "ended").unwrap();
    ended["outcome"]["toplevel"].as_str().unwrap().to_owned()
}

/// Where a path of the operator's store is found here: its links name paths as the operator sees them.
pub fn found(operator: &Operator, path: &str) -> PathBuf {
    let mut at = operator.store();
    for part in Path::new(path).components() {
        if let Component::Normal(part) = part {
            at.push(part);
            while let Ok(to) = at.read_link() {
                at = match to.strip_prefix("/") {
                    Ok(within) => found(operator, within.to_str().unwrap()),
                    Err(_) => at.parent().unwrap().join(to),
                };
            }
        }
    }
    at
}

pub fn read(operator: &Operator, path: &str) -> String {
    let at = found(operator, path);
    std::fs::read_to_string(&at).unwrap_or_else(|error| panic!("{path}, which is {}: {error}", at.display()))
}

//! deploy-rs beside bosco, as its README has it set up, at its fastest: its checks skipped, and hosts that are given all
//! paths from here (`fastConnection`) rather than asked for substitutes. Its magic rollback stays on, as it is by default.

use std::fs;

use anyhow::{Context, Result};
use testbed::Operator;
use testbed::fleet::create;

use crate::bench::apply::{list, machine};
use crate::bench::peer::Peer;
use crate::tools;

/// What a fleet takes from deploy-rs's flake.
const FLAKE: &str = include_str!("../../../testbed/micronix/deploy-rs/flake.nix");

pub(crate) fn peer<'a>(operator: &'a Operator, names: &[&str]) -> Result<Peer<'a>> {
    let programs = tools::deploy_rs()?;
    let flake = operator.dir().join("deploy-rs");
    fs::create_dir(&flake).with_context(|| format!("can't create {}", flake.display()))?;
    fs::write(flake.join("flake.nix"), FLAKE)?;
    fs::copy(programs.join("activate"), flake.join("activate"))
        .context("can't copy deploy-rs's `activate`")?;
    let (hosts, ssh) = (list(names), operator.ssh_config());
    let text = move |round: &str| {
        format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.deploy-rs = {{ url = "path:{flake}"; inputs.nixpkgs.follows = "nixpkgs"; }};
  outputs = {{ self, nixpkgs, deploy-rs }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {hosts} ] (name: nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [ {machine} ];
    }});
    deploy = {{
      sshUser = "root";
      user = "root";
      sshOpts = [ "-F" "{ssh}" ];
      fastConnection = true;
      nodes = builtins.mapAttrs (name: host: {{
        hostname = name;
        profiles.system.path = deploy-rs.lib.x86_64-linux.activate.nixos host;
      }}) self.nixosConfigurations;
    }};
  }};
}}
"#,
            flake = flake.display(),
            ssh = ssh.display(),
            machine = machine(round),
        )
    };
    Ok(Peer {
        name: "deploy-rs",
        operator,
        fleet: create(operator, "deploy-rs-fleet")?,
        flake: Box::new(text),
        attributes: names.iter().map(|name| format!("deploy.nodes.{name}.profiles.system.path")).collect(),
        program: programs.join("deploy"),
        args: &["--skip-checks", "."],
    })
}

//! What it takes to say what changes on twenty hosts, of which each has one package and one unit changed, once all of them are
//! evaluated, built and asked: beside `nix store diff-closures` for one of them. No machines; both read the same store.

use std::path::Path;

use anyhow::{Result, ensure};
use testbed::Operator;
use testbed::fleet::create;

use crate::bench::commands::{command, text};
use crate::bench::{Figure, median, time};
use crate::tools::{cargo, root, run as run_in_checkout};

const HOSTS: usize = 20;
const RUNS: usize = 9;

/// The hosts, each with the package and the unit of ROUND.
const FLEET: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }:
    let
      names = map (number: "host${toString number}") (builtins.genList (n: n + 1) HOSTS);
      system = name: (nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [ ({ pkgs, ... }: {
          networking.hostName = name;
          services.openssh.enable = true;
          system.stateVersion = "26.05";
          environment.systemPackages = [
            (pkgs.runCommand "tool-1.ROUND" { } "mkdir -p $out/bin; head -c 1000000 /dev/zero > $out/bin/tool")
          ];
          systemd.services.worker = {
            wantedBy = [ "multi-user.target" ];
            serviceConfig.ExecStart = "${pkgs.busybox}/bin/sleep 100000ROUND";
          };
        }) ];
      }).config.system.build.toplevel;
    in { toplevels = map system names; };
}
"#;

pub(crate) fn run() -> Result<Vec<Figure>> {
    run_in_checkout(&mut cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "bosco-nix",
        "--example",
        "compare",
    ]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let compare = target.join("release/examples/compare");
    let operator = Operator::alone()?;
    let fleet = create(&operator, "bench")?;
    let mut rounds = Vec::new();
    for round in ["1", "2"] {
        eprintln!("diff: building round {round}");
        fleet.write("flake.nix", &FLEET.replace("ROUND", round).replace("HOSTS", &HOSTS.to_string()))?;
        fleet.commit()?;
        rounds.push(toplevels(&operator, fleet.path())?);
    }
    let pairs: Vec<&String> = rounds[0].iter().zip(&rounds[1]).flat_map(|(old, new)| [old, new]).collect();

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut said = String::new();
        ours.push(time(|| {
            said = text(command(&operator, &compare).args(&pairs))?;
            Ok(())
        })?);
        ensure!(
            said.trim() == format!("{HOSTS} hosts: 1 packages, 1 units restarted"),
            "not one block for all hosts:\n{said}"
        );
        theirs.push(time(|| {
            let mut nix = command(&operator, "nix");
            text(nix.args(["store", "diff-closures", pairs[0], pairs[1]])).map(drop)
        })?);
    }
    let name = format!("what changes on {HOSTS} hosts, beside `nix store diff-closures` for one");
    Ok(vec![Figure::at_most(name, 1000.0 * median(ours), "ms", 1000.0 * median(theirs), 2.0)])
}

/// Builds all hosts, and gives their toplevels in order. Without a lock, what nobody needs any more stays in this store.
fn toplevels(operator: &Operator, dir: &Path) -> Result<Vec<String>> {
    let mut nix = command(operator, "nix");
    nix.args(["eval", "--json", ".#toplevels", "--apply", "map (one: one.drvPath)"]).current_dir(dir);
    let derivations: Vec<String> = serde_json::from_str(&text(&mut nix)?)?;
    let mut nix = command(operator, "nix");
    nix.args(["build", "--no-link", "--print-out-paths"]);
    nix.args(derivations.iter().map(|derivation| format!("{derivation}^out"))).current_dir(dir);
    Ok(text(&mut nix)?.lines().map(str::to_owned).collect())
}

//! What it takes to say what changes on twenty hosts, of which each has one package and one unit changed, once all of them are
//! evaluated, built and asked: beside `nix store diff-closures` for one of them. No machines; both read the same store, and find
//! it at /nix/store as on people's machines. The `nix --version` that every command of bosco's begins with is taken off.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Operator;
use testbed::fleet::create;

use crate::bench::commands::{command, text};
use crate::bench::peer::entered;
use crate::bench::{Figure, median};
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
    let pairs = rounds[0].iter().zip(&rounds[1]).flat_map(|(old, new)| [old.as_str(), new.as_str()]);
    let pairs: Vec<&str> = pairs.collect();

    let (mut ours, mut theirs, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    let compare = compare.to_string_lossy();
    for _ in 0..RUNS {
        versions.push(within(&operator, &["nix", "--version"])?.0);
        let (took, said) = within(&operator, &[&[&*compare], pairs.as_slice()].concat())?;
        ensure!(
            said.trim() == format!("{HOSTS} hosts: 1 packages, 1 units restarted"),
            "not one block for all hosts:\n{said}"
        );
        ours.push(took);
        theirs.push(within(&operator, &["nix", "store", "diff-closures", pairs[0], pairs[1]])?.0);
    }
    let ours = median(ours) - median(versions);
    let name = format!("what changes on {HOSTS} hosts, beside `nix store diff-closures` for one");
    Ok(vec![Figure::at_most(name, 1000.0 * ours, "ms", 1000.0 * median(theirs), 2.0)])
}

/// How long a command takes where the store is at /nix/store, without the way there; and what it says.
fn within(operator: &Operator, words: &[&str]) -> Result<(Duration, String)> {
    const TIMED: &str =
        r#"start=$(date +%s%N); said=$("$@") || exit; echo $(($(date +%s%N) - start)); echo "$said""#;
    let said = text(entered(operator, "sh").args(["-c", TIMED, "sh"]).args(words))?;
    let (took, said) = said.split_once('\n').context("a command was not timed")?;
    Ok((Duration::from_nanos(took.parse()?), said.to_owned()))
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

//! What a hundred secrets cost: a deploy that changes the system of a host that has them, beside the same of one that has
//! none, both with their evaluation, in one run on one machine. Half are of a sops file, half are keys that are sealed.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use testbed::fleet::create;
use testbed::{Lab, LabSpec, sops};

use crate::bench::commands::{command, quiet};
use crate::bench::{Figure, median, time};
use crate::tools::build;

const RUNS: usize = 7;
/// How many of each kind.
const HALF: usize = 50;
/// How much more they may take.
const MORE: Duration = Duration::from_millis(150);

const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }:
    let
      modules = ((import ./bosco/flake.nix).outputs { }).nixosModules;
      host = name: more: nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          modules.default modules.sops more ./round.nix
          {
            networking.hostName = name;
            services.openssh.enable = true;
            services.bosco.enable = true;
            system.stateVersion = "26.05";
          }
        ];
      };
    in {
      nixosConfigurations.host1 = host "host1" ./secrets.nix;
      nixosConfigurations.host2 = host "host2" { };
    };
}
"#;

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(2))?;
    let operator = lab.operator();
    let fleet = create(operator, "bench")?;
    fleet.add_bosco()?;
    fleet.write("flake.nix", FLAKE)?;
    let (mut values, mut options) = (Vec::new(), String::from("{ sops.defaultSopsFile = ./host1.yaml;\n"));
    for number in 0..HALF {
        values.push((format!("sops{number}"), format!("what is in {number}")));
        writeln!(options, "sops.secrets.sops{number} = {{ restartUnits = [ \"app.service\" ]; }};")?;
        writeln!(options, "deployment.keys.key{number}.text = \"what is in key {number}\";")?;
    }
    fleet.write("secrets.nix", &(options + "}\n"))?;
    let values: Vec<(&str, &str)> =
        values.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    fleet.write("host1.yaml", &sops::encrypted(&values, &[&lab.host("host1")?.public_key()?])?)?;

    let bosco = |args: &[&str]| {
        quiet(command(operator, &bosco).args(args).args(["--color", "never"]).current_dir(fleet.path()))
    };
    let mut round = 0;
    let mut next = || {
        round += 1;
        fleet.write("round.nix", &format!("{{ environment.etc.round.text = \"{round}\"; }}\n"))?;
        fleet.commit()?;
        bosco(&["build"])
    };
    // What is the first time only is not measured.
    next()?;
    bosco(&["apply"])?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut nothing_with, mut nothing_without) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        eprintln!("secrets: run {run} of {RUNS}");
        next()?;
        let apply = |host: &str, times: &mut Vec<Duration>| {
            times.push(time(|| bosco(&["apply", "--on", host]))?);
            anyhow::Ok(())
        };
        // Neither is always the one that the other has left its work to.
        let both = |with: &mut _, without: &mut _| {
            if run % 2 == 0 {
                apply("host1", with)?;
                apply("host2", without)
            } else {
                apply("host2", without)?;
                apply("host1", with)
            }
        };
        both(&mut with, &mut without)?;
        both(&mut nothing_with, &mut nothing_without)?;
    }
    let (with, without) = (median(with), median(without));
    Ok(vec![
        Figure::at_most(
            format!("a change on a host with {} secrets, less the same without, beside 0.15 s", 2 * HALF),
            with - without,
            "s",
            MORE.as_secs_f64(),
            1.0,
        ),
        Figure::beside("a change with them, beside one without", with, "s", without),
        Figure::beside(
            "nothing to do with them, beside nothing to do without",
            median(nothing_with),
            "s",
            median(nothing_without),
        ),
    ])
}

//! What an apply costs beside what nobody can avoid, one `ssh HOST true` to all hosts at once, and beside other tools.
//!
//! Ten hosts at 50 ms round trip. The time of a bare `nix eval` of the same hosts, measured in the same run, is taken off
//! the applies that stand beside the floor: what is left is bosco's own. Beside other tools stands the whole apply, as its
//! user waits for it, but for the build, which all find done.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::fleet::{Fleet, create};
use testbed::{Lab, LabSpec};

use crate::bench::commands::{all_at_once, command, evaluate, quiet};
use crate::bench::peer::Peer;
use crate::bench::{Figure, colmena, deploy_rs, median, time};
use crate::tools::build;

const HOSTS: usize = 10;
const ONE_WAY: Duration = Duration::from_millis(25);
const RUNS: usize = 5;
/// In how many of the runs the other tools take part: they take long.
const PEER_RUNS: usize = 3;

/// The times of one way to deploy.
#[derive(Default)]
struct Times {
    changes: Vec<Duration>,
    nothings: Vec<Duration>,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(HOSTS))?;
    let operator = lab.operator();
    let names: Vec<&str> = lab.hosts().iter().map(testbed::Host::name).collect();
    let fleet = create(operator, "bench")?;
    let bosco = |args: &[&str]| {
        quiet(command(operator, &bosco).args(args).args(["--color", "never"]).current_dir(fleet.path()))
    };
    let arrived = |round: &str| {
        all_at_once(operator, &names, &format!("test \"$(cat /etc/round)\" = '{round}'"))
            .context("not every host has what was deployed")
    };
    let mut peers = vec![deploy_rs::peer(operator, &names)?];
    match colmena::peer(operator, &names)? {
        Some(colmena) => peers.push(colmena),
        None => eprintln!("Colmena is not in PATH, and left out"),
    }

    // What is the first time only is not measured, nor is it slowed.
    for peer in &peers {
        let round = format!("{} 0", peer.name);
        peer.change(&round)?;
        peer.deploy()?;
        arrived(&round)?;
    }
    write(&fleet, &names, "bosco 0")?;
    bosco(&["apply"])?;
    for host in lab.hosts() {
        host.delay(ONE_WAY)?;
    }

    let (mut evaluations, mut floors, mut switches) = (Vec::new(), Vec::new(), Vec::new());
    let mut ours = Times::default();
    let mut theirs: Vec<(&Peer<'_>, Times)> = peers.iter().map(|peer| (peer, Times::default())).collect();
    for run in 1..=RUNS {
        eprintln!("apply: run {run} of {RUNS}");
        floors.push(time(|| all_at_once(operator, &names, "true"))?);
        let round = format!("bosco {run}");
        write(&fleet, &names, &round)?;
        evaluations.push(time(|| evaluate(operator, fleet.path()))?);
        // The build is part of the evaluation's side: it is the same work with any tool.
        bosco(&["build"])?;
        ours.changes.push(time(|| bosco(&["apply"]))?);
        arrived(&round)?;
        evaluations.push(time(|| evaluate(operator, fleet.path()))?);
        ours.nothings.push(time(|| bosco(&["apply"]))?);
        // What the hosts need for themselves: the same switch once more, on all at once, without the round trips.
        let switch = "/run/current-system/bin/switch-to-configuration test";
        switches.push(time(|| all_at_once(operator, &names, switch))?);
        for (peer, times) in theirs.iter_mut().take_while(|_| run <= PEER_RUNS) {
            let round = format!("{} {run}", peer.name);
            peer.change(&round)?;
            times.changes.push(time(|| peer.deploy())?);
            arrived(&round)?;
            times.nothings.push(time(|| peer.deploy())?);
        }
    }

    let (floor, evaluation) = (median(floors), median(evaluations));
    let switch = (median(switches) - floor).max(0.0);
    let (nothing, change) = (median(ours.nothings), median(ours.changes));
    let mut figures = vec![
        Figure::at_most(
            "apply with nothing to do, without its evaluation, beside ssh",
            nothing - evaluation,
            "s",
            floor,
            1.5,
        ),
        Figure::at_most(
            "apply of a change, without evaluation and switch, beside ssh",
            change - evaluation - switch,
            "s",
            floor,
            3.5,
        ),
    ];
    for (peer, times) in theirs {
        let name = peer.name;
        let theirs = median(times.nothings);
        figures.push(Figure::beside(
            format!("{name} with nothing to do, beside bosco, both with evaluation"),
            theirs,
            "s",
            nothing,
        ));
        let theirs = median(times.changes);
        figures.push(Figure::beside(
            format!("{name} with a change, beside bosco, both with evaluation"),
            theirs,
            "s",
            change,
        ));
    }
    Ok(figures)
}

/// A fleet whose hosts differ from one round to the next in one line.
pub(crate) fn write(fleet: &Fleet<'_>, names: &[&str], round: &str) -> Result<()> {
    fleet.write(
        "flake.nix",
        &format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = {{ nixpkgs, ... }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {} ] (name: nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [ {} ];
    }});
  }};
}}
"#,
            list(names),
            machine(round)
        ),
    )?;
    fleet.commit()
}

/// The module of every host, whichever tool deploys it, where `name` is the host's.
pub(crate) fn machine(round: &str) -> String {
    format!(
        r#"{{
        networking.hostName = name;
        services.openssh.enable = true;
        system.stateVersion = "26.05";
        environment.etc."round".text = "{round}";
      }}"#
    )
}

/// What stands between the brackets of a list of names.
pub(crate) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ")
}

//! What an apply costs beside what nobody can avoid: one `ssh HOST true` to all hosts at once.
//!
//! Ten hosts at 50 ms round trip. The time of a bare `nix eval` of the same hosts, measured in the same run, is taken off
//! the applies: what is left is bosco's own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::fleet::{Fleet, create};
use testbed::{Lab, LabSpec, Operator};

use crate::bench::{Figure, median, time};
use crate::tools::build;

const HOSTS: usize = 10;
const ONE_WAY: Duration = Duration::from_millis(25);
const RUNS: usize = 5;

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(HOSTS))?;
    let operator = lab.operator();
    let fleet = create(operator, "bench")?;
    let names: Vec<&str> = lab.hosts().iter().map(testbed::Host::name).collect();
    write(&fleet, &names, 0)?;
    let apply =
        || quiet(operator.command(&bosco).args(["apply", "--color", "never"]).current_dir(fleet.path()));
    apply()?;
    for host in lab.hosts() {
        host.delay(ONE_WAY)?;
    }

    let (mut evaluations, mut floors, mut nothings, mut changes, mut switches) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=RUNS {
        floors.push(time(|| all_at_once(operator, &names, "true"))?);
        evaluations.push(time(|| evaluate(operator, fleet.path()))?);
        nothings.push(time(apply)?);
        write(&fleet, &names, round)?;
        // The build is part of the evaluation's side: it is the same work with any tool.
        evaluations.push(time(|| evaluate(operator, fleet.path()))?);
        quiet(operator.command(&bosco).arg("build").current_dir(fleet.path()))?;
        changes.push(time(apply)?);
        // What the hosts need for themselves: the same switch once more, on all at once, without the round trips.
        let switch = "/run/current-system/bin/switch-to-configuration test";
        switches.push(time(|| all_at_once(operator, &names, switch))?);
    }

    let (floor, evaluation) = (median(floors), median(evaluations));
    let switch = (median(switches) - floor).max(0.0);
    let (nothing, change) = (median(nothings) - evaluation, median(changes) - evaluation);
    Ok(vec![
        Figure::at_most("apply with nothing to do, without its evaluation", nothing, "s", floor, 1.5),
        Figure::at_most("apply of a change, without evaluation and switch", change - switch, "s", floor, 3.5),
    ])
}

/// A fleet whose hosts differ from one round to the next in one line.
fn write(fleet: &Fleet<'_>, names: &[&str], round: usize) -> Result<()> {
    let hosts: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    fleet.write(
        "flake.nix",
        &format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = {{ nixpkgs, ... }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {} ] (name: nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [ {{
        networking.hostName = name;
        services.openssh.enable = true;
        system.stateVersion = "26.05";
        environment.etc."round".text = "{round}";
      }} ];
    }});
  }};
}}
"#,
            hosts.join(" ")
        ),
    )?;
    fleet.commit()
}

fn evaluate(operator: &Operator, dir: &Path) -> Result<()> {
    let mut nix = operator.command("nix");
    nix.args(["eval", "--json", "--no-eval-cache", ".#nixosConfigurations", "--apply"]);
    nix.arg("builtins.mapAttrs (_: host: host.config.system.build.toplevel.drvPath)");
    quiet(nix.current_dir(dir))
}

/// One `ssh HOST COMMAND` to each host, side by side.
fn all_at_once(operator: &Operator, names: &[&str], command: &str) -> Result<()> {
    let mut children = Vec::new();
    for name in names {
        let mut ssh = operator.command("ssh");
        ssh.arg("-F").arg(operator.ssh_config()).args(["--", name, command]);
        children.push(ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    for mut child in children {
        ensure!(child.wait()?.success(), "ssh failed");
    }
    Ok(())
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("could not run a command")?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

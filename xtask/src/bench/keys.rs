//! What bringing keys to hosts costs: twenty keys of each of twenty hosts at 50 ms round trip, by one bosco, beside one call of ssh
//! for each key, one after the other on a host and on ten hosts at once, as Colmena does it.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::fleet::{Fleet, create};
use testbed::{Lab, LabSpec};

use crate::bench::apply::list;
use crate::bench::commands::{all_at_once, command, evaluate, quiet, ssh};
use crate::bench::{Figure, median, time};
use crate::tools::build;

const HOSTS: usize = 20;
const KEYS: usize = 20;
const ONE_WAY: Duration = Duration::from_millis(25);
const RUNS: usize = 3;
/// On how many hosts Colmena is at once.
const AT_ONCE: usize = 10;
/// How much of the time of one call for each key bosco may take.
const MOST: f64 = 0.1;

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(HOSTS))?;
    let operator = lab.operator();
    let names: Vec<&str> = lab.hosts().iter().map(testbed::Host::name).collect();
    let fleet = create(operator, "bench")?;
    fleet.add_bosco()?;
    let bosco = |args: &[&str]| {
        quiet(command(operator, &bosco).args(args).args(["--color", "never"]).current_dir(fleet.path()))
    };
    write(&fleet, &names, 0)?;
    // What is the first time only is not measured, nor is it slowed.
    bosco(&["apply"])?;
    for host in lab.hosts() {
        host.delay(ONE_WAY)?;
    }
    let one_by_one = || {
        let waiting = Mutex::new(names.clone());
        let next = || waiting.lock().ok().and_then(|mut waiting| waiting.pop());
        let work = || {
            while let Some(host) = next() {
                for key in 0..KEYS {
                    let script = format!("umask 077; cat > /run/by-ssh-{key}");
                    send(&mut ssh(operator, host, &script), &value(0, key))?;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker has panicked")))
        })
    };
    let (mut ours, mut theirs, mut evaluations) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=RUNS {
        eprintln!("keys: run {run} of {RUNS}");
        write(&fleet, &names, run)?;
        evaluations.push(time(|| evaluate(operator, fleet.path()))?);
        ours.push(time(|| bosco(&["apply", "--goal", "keys"]))?);
        all_at_once(operator, &names, &format!("test \"$(cat /run/keys/key7)\" = '{}'", value(run, 7)))
            .context("not every host has the keys that were brought")?;
        theirs.push(time(one_by_one)?);
    }
    let (ours, theirs, evaluation) = (median(ours), median(theirs), median(evaluations));
    Ok(vec![
        Figure::at_most(
            format!("{KEYS} keys of {HOSTS} hosts, without the evaluation, beside one ssh for each"),
            ours - evaluation,
            "s",
            theirs,
            MOST,
        ),
        Figure::beside("the same with the evaluation", ours, "s", theirs),
    ])
}

/// Runs a command with an input.
fn send(command: &mut Command, input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    ensure!(child.wait()?.success(), "an ssh for one key failed");
    Ok(())
}

fn value(round: usize, key: usize) -> String {
    format!("what is in key {key} in round {round}")
}

/// A fleet whose keys are others in each round.
fn write(fleet: &Fleet<'_>, names: &[&str], round: usize) -> Result<()> {
    let mut keys = String::new();
    for key in 0..KEYS {
        writeln!(keys, "        deployment.keys.key{key}.text = \"{}\";", value(round, key))?;
    }
    fleet.write(
        "flake.nix",
        &format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = {{ nixpkgs, ... }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {} ] (name: nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [
        ((import ./bosco/flake.nix).outputs {{ }}).nixosModules.default
        {{
        networking.hostName = name;
        services.openssh.enable = true;
        services.bosco.enable = true;
        system.stateVersion = "26.05";
{keys}        }}
      ];
    }});
  }};
}}
"#,
            list(names),
        ),
    )?;
    fleet.commit()
}

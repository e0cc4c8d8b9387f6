//! What it costs that an activation is a transaction: a changed deploy with everything armed, beside the same deploy with
//! nothing armed.
//!
//! Unarmed is what a careful person would type: the same bosco evaluates and delivers, then `switch-to-configuration test`,
//! the profile, `switch-to-configuration boot` and `sync`, over one connection in all. The connection that the second step
//! takes here is taken off again, by the time of `ssh HOST true` in the same run. Armed is `bosco apply`: journal, dead man,
//! verified paths, probes, and a fresh connection, which is the one that it may cost more.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::fleet::create;
use testbed::{Host, Lab, LabSpec};

use crate::bench::apply::write;
use crate::bench::commands::{all_at_once, command, quiet};
use crate::bench::{Figure, median, time};
use crate::tools::build;

const RUNS: usize = 7;
/// One way; both ends of what hosts are like.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(25)];
/// How much more it may cost, beside one connection.
const MORE: f64 = 1.15;

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(1))?;
    let (operator, host) = (lab.operator(), lab.host("host1")?);
    let names = ["host1"];
    let fleet = create(operator, "bench")?;
    let bosco = |args: &[&str]| {
        quiet(command(operator, &bosco).args(args).args(["--color", "never"]).current_dir(fleet.path()))
    };
    let unarmed = || {
        bosco(&["apply", "--goal", "push"])?;
        // What was pushed last is rooted by that name.
        all_at_once(
            operator,
            &names,
            "s=$(readlink /nix/var/nix/gcroots/bosco/pushed); $s/bin/switch-to-configuration test && sync && \
             nix-env --profile /nix/var/nix/profiles/system --set $s && sync && \
             $s/bin/switch-to-configuration boot && sync",
        )
    };
    let mut round = 0;
    let mut next = || {
        round += 1;
        write(&fleet, &names, &round.to_string())?;
        bosco(&["build"])
    };
    // What is the first time only is not measured.
    next()?;
    bosco(&["apply"])?;
    next()?;
    unarmed()?;

    let mut figures = Vec::new();
    for delay in DELAYS {
        host.delay(delay)?;
        let (mut armed, mut floors, mut connections) = (Vec::new(), Vec::new(), Vec::new());
        for run in 1..=RUNS {
            eprintln!("activation at {} ms: run {run} of {RUNS}", 2 * delay.as_millis());
            let connection = time(|| all_at_once(operator, &names, "true"))?;
            next()?;
            let before = let_in(host)?;
            armed.push(time(|| bosco(&["apply"]))?);
            // The look at the journal is a connection as well.
            ensure!(let_in(host)? - before == 3, "an apply of a change took more than two connections");
            next()?;
            floors.push(time(unarmed)?.saturating_sub(connection));
            connections.push(connection);
        }
        let (armed, floor, connection) = (median(armed), median(floors), median(connections));
        let ms = 2 * delay.as_millis();
        figures.push(Figure::at_most(
            format!("a change with everything armed, less one connection, {ms} ms, beside nothing armed"),
            armed - connection,
            "s",
            floor,
            MORE,
        ));
        figures.push(Figure::beside(
            format!("a change with everything armed, {ms} ms, beside nothing armed"),
            armed,
            "s",
            floor,
        ));
    }
    Ok(figures)
}

/// How many connections sshd has let in.
fn let_in(host: &Host) -> Result<usize> {
    let count = host.ssh_ok("journalctl --quiet --unit sshd --output cat | grep -c 'Accepted publickey'")?;
    Ok(count.trim().parse()?)
}

//! A closure to one host by its agent, beside `nix copy` of the same paths; and what the host's own polls take meanwhile.
//!
//! The agent's time is from the line in its log that it fetches to the one that it activates: a connection, what is in the
//! closure, what is lacking, the paths, and that they are what was signed. What the hub holds was sent there before, as
//! `bosco release` does while it builds.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{ADDRESS, Bench, HOSTS};
use crate::bench::commands::{command, quiet, text};
use crate::bench::transfer::{Load, NOISE};
use crate::bench::{Figure, median};

const RUNS: usize = 3;
/// How long polls go on, in seconds: longer than any way takes.
const POLLING: &str = "45";
/// What a poll may take meanwhile, in milliseconds.
const POLL: f64 = 200.0;

pub(super) fn run(bench: &Bench<'_>, poll: &Path) -> Result<Vec<Figure>> {
    let (operator, host) = (bench.lab.operator(), bench.lab.host(HOSTS[0])?);
    let noise = format!("noise.text = {NOISE};");
    bench.write("with noise", &noise)?;
    eprintln!("bulk: building");
    let attribute = format!(".#nixosConfigurations.{}.config.system.build.toplevel", HOSTS[0]);
    let mut nix = command(operator, "nix");
    nix.args(["build", "--no-link", "--print-out-paths", &attribute]).current_dir(bench.fleet.path());
    let toplevel = text(&mut nix)?.trim().to_owned();
    let load = Load::of(operator, host, &toplevel)?;
    std::fs::copy(poll, host.root().join("root/bosco-poll")).context("the host's disk can't be written")?;
    let polls = format!(
        "timeout 55 /root/bosco-poll /etc/ssh/ssh_host_ed25519_key {ADDRESS} '{}' {POLLING}",
        bench.hub_key
    );
    let nix_copy = |scheme: &str| {
        let to = format!("{scheme}://{}", HOSTS[0]);
        quiet(command(operator, "nix").args(["copy", "--no-check-sigs", "--to", &to, &toplevel]))
    };

    let mut figures = Vec::new();
    for round_trip in [0_u32, 50] {
        host.delay(Duration::from_millis(round_trip.into()) / 2)?;
        let (mut fetches, mut copies, mut ng_copies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut slowest, mut usual) = (Vec::new(), Vec::new());
        for run in 1..=RUNS {
            eprintln!("bulk: {round_trip} ms, run {run} of {RUNS}");
            // The host goes to the system with the noise and back, by releases.
            bench.write("with noise", &noise)?;
            let mut watch = bench.watch()?;
            let polled = thread::scope(|scope| {
                let polled = scope.spawn(|| host.at_keyboard(&polls));
                let (number, _) = bench.release()?;
                watch.until_at(&HOSTS[..1], number)?;
                polled.join().map_err(|_| anyhow::anyhow!("polling panicked"))?
            })?;
            let (from, to) = fetched(&host.at_keyboard(
                "journalctl --no-pager --quiet --output short-unix --unit bosco-agent --lines 200",
            )?)?;
            fetches.push(Duration::from_secs_f64(to - from));
            let mut meanwhile: Vec<Duration> = polled
                .lines()
                .filter_map(|line| line.split_once(' '))
                .filter_map(|(at, took)| Some((at.parse::<f64>().ok()?, took.parse::<f64>().ok()?)))
                .filter(|(at, took)| at + took > from && *at < to)
                .map(|(_, took)| Duration::from_secs_f64(took))
                .collect();
            ensure!(meanwhile.len() > 5, "there were {} polls while it was fetched", meanwhile.len());
            meanwhile.sort();
            slowest.extend(meanwhile.last());
            usual.push(Duration::from_secs_f64(median(meanwhile)));
            bench.write(&format!("without noise {round_trip} {run}"), "")?;
            let mut watch = bench.watch()?;
            let (number, _) = bench.release()?;
            watch.until_at(&HOSTS[..1], number)?;
            host.at_keyboard("nix-env --profile /nix/var/nix/profiles/system --delete-generations old")?;
            load.forget()?;
            copies.push(load.bring(|| nix_copy("ssh"))?);
            ng_copies.push(load.bring(|| nix_copy("ssh-ng"))?);
        }
        let (fetch, copy, ng_copy) = (median(fetches), median(copies), median(ng_copies));
        let (best, scheme) = if copy <= ng_copy { (copy, "ssh") } else { (ng_copy, "ssh-ng") };
        let name = format!("an agent fetches {} at {round_trip} ms", load.name());
        figures.extend([
            Figure::at_most(format!("{name}, beside `nix copy` to ssh://"), fetch, "s", copy, 1.0),
            Figure::at_most(
                format!("{name}, beside the faster `nix copy`, to {scheme}://"),
                fetch,
                "s",
                best,
                1.0,
            ),
            Figure::at_most(
                "the slowest poll of that host meanwhile",
                median(slowest) * 1e3,
                "ms",
                POLL,
                1.0,
            ),
            Figure::beside(
                format!("the median of its polls meanwhile, at {round_trip} ms, beside {POLL:.0} ms"),
                median(usual) * 1e3,
                "ms",
                POLL,
            ),
        ]);
    }
    Ok(figures)
}

/// When the agent began to fetch last, and when it had all, by its log.
fn fetched(log: &str) -> Result<(f64, f64)> {
    let at = |line: &str| line.split_once(' ').and_then(|(at, _)| at.parse::<f64>().ok());
    let last = |words: &str| log.lines().rfind(|line| line.contains(words)).and_then(at);
    let (from, to) = (last(": fetches release "), last(": activates release "));
    let (from, to) = from.zip(to).context("the agent's log does not say when it fetched")?;
    ensure!(from < to, "the agent's log says that it activates before it fetches:\n{log}");
    Ok((from, to))
}

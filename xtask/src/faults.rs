//! `cargo xtask faults`: every effect of an activation by every fault, on machines that are booted for it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::faults::{Spec, Tally, run};
use anyhow::{Context, Result};
use clap::Args;

use crate::tools::{build, root};

#[derive(Args)]
pub(crate) struct FaultsArgs {
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
    /// How many power cuts there are to be, over all effects
    #[arg(long, default_value_t = 520)]
    cuts: usize,
    /// Hit every effect by every fault once, and no more
    #[arg(long, conflicts_with = "cuts")]
    sample: bool,
    /// Write what came of it into docs/faults.md
    #[arg(long)]
    docs: bool,
    /// Make the choices of an earlier run again
    #[arg(long)]
    seed: Option<u64>,
    /// Begin with nothing more after so many minutes, whatever is left to be done
    #[arg(long)]
    minutes: Option<u64>,
    /// How many machines there are
    #[arg(long)]
    hosts: Option<usize>,
    /// Where what goes wrong is kept
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub(crate) fn start(args: FaultsArgs) -> Result<ExitCode> {
    testbed::require_root()?;
    let bosco = build("bosco", "bosco", false)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(now.as_secs() % 1_000_000);
    let keep = args.keep.unwrap_or_else(|| root().join("target/faults"));
    let mut spec =
        if args.sample { Spec::sample(bosco, keep, seed) } else { Spec::full(bosco, keep, seed, args.cuts) };
    spec.hosts = args.hosts.unwrap_or(spec.hosts).max(2);
    spec.limit = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    eprintln!("seed {seed}, {} hosts", spec.hosts);
    let started = Instant::now();
    let tell = |tally: &Tally, text: &str| {
        eprintln!("[{:4.0} s] {}; {text}", started.elapsed().as_secs_f64(), tally.line());
    };
    let tally = run(&spec, &tell)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&tally)?);
    } else {
        println!("{}", tally.report());
    }
    if args.docs {
        write_docs(&tally.report())?;
    }
    for failure in &tally.failures {
        eprintln!("\nerror: {failure}");
    }
    Ok(if tally.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const DOCS: &str = "docs/faults.md";
/// What stands before and behind the part of the page that is written by a run.
const PART: [&str; 2] = ["<!-- what came of it -->\n", "<!-- the end of what came of it -->"];

fn write_docs(report: &str) -> Result<()> {
    let path = root().join(DOCS);
    let page = std::fs::read_to_string(&path).with_context(|| format!("can't read {DOCS}"))?;
    let page = replaced(&page, report).with_context(|| format!("{DOCS} has no place for it"))?;
    std::fs::write(&path, page).with_context(|| format!("can't write {DOCS}"))
}

fn replaced(page: &str, report: &str) -> Option<String> {
    let (before, rest) = page.split_once(PART[0])?;
    let (_, after) = rest.split_once(PART[1])?;
    Some(format!("{before}{}\n{report}\n{}{after}", PART[0], PART[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_place_for_what_came_of_a_run() {
        let page = std::fs::read_to_string(root().join(DOCS)).unwrap();
        let once = replaced(&page, "| a |").unwrap();
        assert!(once.contains("\n| a |\n"), "{once}");
        assert_eq!(replaced(&once, "| a |").unwrap(), once);
    }
}

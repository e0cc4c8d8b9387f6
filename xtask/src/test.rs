//! `cargo xtask test`: everything that has to be green, the cheap things first.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;

use crate::tools::{self, build, cargo, cargo_deny};
use crate::{suite, tidy};

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let started = Instant::now();
    check()?;
    eprintln!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

pub(crate) fn run() -> Result<ExitCode> {
    // The whole machines need it, and to find that out at the end would be late.
    testbed::require_root()?;
    step("tidy", tidy::check)?;
    step("formatting", || tools::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("lints", || {
        tools::run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    step("dependencies", || {
        let deny = cargo_deny()?;
        tools::run(Command::new(deny).args([
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    step("programs", || {
        // What tests start beside themselves.
        build("testbed", "bosco-lab", false)?;
        build("bosco", "bosco", false).map(drop)
    })?;
    step("tests", suite::run_all)?;
    Ok(ExitCode::SUCCESS)
}

//! What is done with the project: `cargo xtask test | demo | bench | faults | install | lab`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod demo;
mod faults;
mod install;
mod suite;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Test bosco, show it, measure it")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that has to be green; as root, on Debian 12
    Test,
    /// Boot a small fleet, deploy examples/ to it, change something, deploy again
    Demo {
        /// Open no shell among the machines at the end, leave nothing running
        #[arg(long)]
        once: bool,
    },
    /// Measure; without a name, list what can be measured
    Bench {
        /// What to measure
        name: Option<String>,
        /// Print the figures as JSON
        #[arg(long)]
        json: bool,
    },
    /// Build bosco with the helper that it brings to hosts, and put both below a folder
    Install {
        /// Where to: `DIR/bin/bosco` is the program
        dir: std::path::PathBuf,
    },
    /// Hit every effect of an activation by every fault, on real machines, and judge what becomes of them
    Faults(faults::FaultsArgs),
    /// Play with test machines: up, ssh, cut, heal, delay, power-cut, boot, down
    Lab(testbed::cli::LabArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test => test::run(),
        Command::Demo { once } => demo::run(once),
        Command::Bench { name, json } => bench::run(name.as_deref(), json),
        Command::Install { dir } => install::install(&dir).map(|()| ExitCode::SUCCESS),
        Command::Faults(args) => faults::start(args),
        // What delays frames is a program of its own.
        Command::Lab(args) => match tools::build("testbed", "bosco-lab", false) {
            Ok(_) => return testbed::cli::run(args),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `bosco`: keeps a fleet of NixOS machines at what one git repository says.
//!
//! Here the arguments are read, a command is run, its error is printed. Each command has a file of its own in
//! `commands`; what all of them share is in `fleet` (which hosts), `push` (the way from source to report), `outcome`
//! (what came of a host) and `show` (how a person or a script sees it).

mod cli;
mod commands;
mod error;
mod event;
mod fleet;
mod outcome;
mod push;
mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.color.write_global();
    match commands::run(&cli).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            show::error(&error, cli.json);
            error.exit.into()
        }
    }
}

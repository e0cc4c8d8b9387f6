//! `bosco`: keeps a fleet of NixOS machines at what one git repository says.
//!
//! Here the arguments are read, a command is run, its error is printed. Each command has a file of its own in
//! `commands`; what all of them share is in `fleet` (which hosts), `push` (the way from source to report), `reach` (how a host is reached),
//! `hub` (what its hub is asked), `release` (what is published there), `outcome`
//! (what came of a host) and `show` (how a person or a script sees it).

mod activate;
mod builds;
mod cli;
mod commands;
mod copy;
mod error;
mod event;
mod fleet;
mod gate;
mod helper;
mod hub;
mod outcome;
mod push;
mod reach;
mod release;
mod show;
mod suggest;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::error::{Error, Exit};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.color.write_global();
    raise_limit_of_open_files();
    let ended = match commands::run(&cli).await {
        Ok(Exit::Done) if !show::is_written() => {
            Err(Error::new(Exit::Unable, "the answer could not be written; is the disk full?"))
        }
        ended => ended,
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            show::error(&error, cli.json);
            error.exit.into()
        }
    }
}

/// Each host costs a few open files for as long as its connection lasts; the usual limit is enough for about 250.
fn raise_limit_of_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is not allowed, a small fleet works all the same.
    let _ = setrlimit(Resource::Nofile, limit);
}

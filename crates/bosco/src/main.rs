//! `bosco`: keeps a fleet of NixOS machines at what one git repository says.
//!
//! Here the arguments are read, a command is run, its error is printed. Each command has a file of its own in
//! `commands`; what all of them share is in `fleet` (which hosts), `push` (the way from source to report), `reach` (how a host is reached),
//! `hub` (what its hub is asked), `release` (what is published there), `outcome`
//! (what came of a host) and `show` (how a person or a script sees it).

mod activate;
mod builds;
mod bundle;
mod check;
mod cli;
mod commands;
mod consent;
mod copy;
mod differences;
mod error;
mod event;
mod finding;
mod fleet;
mod gate;
mod git;
mod helper;
mod hub;
mod outcome;
mod push;
mod reach;
mod release;
mod secrets;
mod sequence;
mod show;
mod suggest;

use std::process::ExitCode;

use tokio::runtime::Builder;

use crate::error::{Error, Exit};

fn main() -> ExitCode {
    let cli = cli::read();
    cli.color.write_global();
    raise_limit_of_open_files();
    // What is always there is small: one thread is enough for it.
    let is_always_there = matches!(cli.command, cli::Command::Agent(_));
    let mut builder =
        if is_always_there { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(Exit::Unable, format!("can't begin: {error}"));
            show::error(&error, cli.json);
            return error.exit.into();
        }
    };
    let ended = match runtime.block_on(commands::run(&cli)) {
        Ok(Exit::Done) if !show::is_written() => {
            Err(Error::new(Exit::Unable, "the answer could not be written; is the disk full?"))
        }
        ended => ended,
    };
    if is_always_there {
        // A name that is still looked up must not hold up its end.
        runtime.shutdown_background();
    } else {
        drop(runtime);
    }
    show::restore();
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

//! `bosco man`.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::{Error, Exit};

pub(crate) fn run(directory: &Path) -> Result<Exit, Error> {
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)
    };
    write().map_err(|error| {
        Error::new(
            Exit::Unable,
            format!("the man pages can't be written to {}: {error}", directory.display()),
        )
    })?;
    Ok(Exit::Done)
}

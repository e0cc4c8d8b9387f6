//! `bosco completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::{Error, Exit};

pub(crate) fn run(shell: Shell) -> Result<Exit, Error> {
    clap_complete::generate(shell, &mut Cli::command(), "bosco", &mut std::io::stdout());
    Ok(Exit::Done)
}

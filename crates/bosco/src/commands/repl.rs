//! `bosco repl`.

use std::os::unix::process::CommandExt;

use bosco_nix::Nix;

use crate::cli::Cli;
use crate::error::{Error, Exit};
use crate::fleet::source;

pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    let source = source(&cli.place)?;
    let nix = Nix::find(cli.settings()).await?;
    // It is at the terminal itself from here on.
    let why = nix.repl(&source).await?.exec();
    Err(Error::new(Exit::Unable, format!("`nix repl` can't be run: {why}")))
}

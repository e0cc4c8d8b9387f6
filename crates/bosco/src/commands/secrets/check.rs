//! `bosco secrets check`.

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::secrets::audit::audit;
use crate::secrets::survey;
use crate::show;

pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let secrets = stoppable(&show, survey(cli, watch(&show))).await?;
    Ok(show::findings(&audit(&secrets.book), &[], cli.json))
}

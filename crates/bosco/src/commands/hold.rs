//! `bosco hold`.

use bosco_model::Selector;
use bosco_wire::api::Why;

use crate::cli::Cli;
use crate::commands::order::order;
use crate::error::{Error, Exit};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, why: &str) -> Result<Exit, Error> {
    order(cli, selector.as_ref(), "hold", &Why { why: why.to_owned() }, "stays as it is").await
}

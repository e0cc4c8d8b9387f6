//! `bosco apply` and `bosco build`.

use bosco_model::Selector;
use bosco_nix::Root;

use crate::cli::Cli;
use crate::commands::work;
use crate::error::{Error, Exit};
use crate::fleet::Context;
use crate::push::{Wish, push};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, wish: &Wish) -> Result<Exit, Error> {
    work(cli, async |events| {
        let context = Context::find(cli, events).await?;
        if selector.is_none() && wish.goal.delivers() && !context.fleet.allow_apply_all {
            return Err(Error::new(Exit::Usage, "this fleet is not to be applied as a whole")
                .hint("say which hosts; the hive has `meta.allowApplyAll = false`"));
        }
        let chosen = context.choose(selector.as_ref())?;
        let root = Root::new().map_err(|error| {
            Error::new(Exit::Unable, format!("no temporary directory can be made: {error}"))
        })?;
        let outcomes = push(context.clone(), wish, root, chosen).await?;
        if outcomes.is_empty() {
            return Err(context.no_match(selector.as_ref()));
        }
        Ok(outcomes)
    })
    .await
}

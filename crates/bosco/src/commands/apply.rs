//! `bosco apply` and `bosco build`.

use bosco_model::Selector;
use bosco_nix::Root;

use crate::cli::Cli;
use crate::commands::work;
use crate::error::{Error, Exit};
use crate::push::{Wish, push};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, wish: &Wish) -> Result<Exit, Error> {
    work(cli, selector.as_ref(), async |context, chosen| {
        if selector.is_none() && wish.goal.delivers() && !context.fleet.allow_apply_all {
            return Err(Error::new(Exit::Usage, "this fleet is not to be applied as a whole")
                .hint("say which hosts; the hive has `meta.allowApplyAll = false`"));
        }
        let root = Root::new().map_err(|error| {
            Error::new(Exit::Unable, format!("no temporary directory can be made: {error}"))
        })?;
        push(context, wish, root, chosen).await
    })
    .await
}

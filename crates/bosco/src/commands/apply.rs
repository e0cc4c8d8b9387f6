//! `bosco apply` and `bosco build`.

use std::sync::Arc;

use bosco_model::Selector;
use bosco_nix::Root;

use crate::cli::Cli;
use crate::commands::stopped;
use crate::error::{Error, Exit};
use crate::event::{Event, Ledger, Sink};
use crate::fleet::Context;
use crate::outcome;
use crate::push::{Wish, push};
use crate::show;

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, wish: &Wish) -> Result<Exit, Error> {
    let show = show::for_work(cli);
    let ledger = Arc::new(Ledger::default());
    let events: Sink = {
        let (show, ledger) = (Arc::clone(&show), Arc::clone(&ledger));
        Arc::new(move |event: Event| {
            if ledger.record(&event) {
                show.event(&event);
            }
        })
    };
    let work = async {
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
    };
    // What was asked to stop is not told as failed: its processes hear of the interrupt at the same time.
    let outcomes = tokio::select! {
        biased;
        () = stopped() => ledger.stop(),
        outcomes = work => outcomes.inspect_err(|_| show.clear())?,
    };
    if outcomes.is_empty() {
        show.clear();
        return Err(Error::new(Exit::Interrupted, "interrupted; nothing was done to any host"));
    }
    show.summary(&outcomes);
    Ok(outcome::exit(outcomes.iter().map(|(_, outcome)| outcome)))
}

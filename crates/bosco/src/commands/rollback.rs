//! `bosco rollback`.

use std::sync::Arc;

use bosco_activation::{Refusal, judge};
use bosco_host::Session;
use bosco_model::{Goal, Observed, Selector};
use bosco_wire::Ssh;
use tokio::sync::Semaphore;

use crate::cli::Cli;
use crate::commands::work;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each};
use crate::outcome::Outcome;
use crate::push::{CONNECTIONS, persistently, refused, troubled};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, to: Option<u32>) -> Result<Exit, Error> {
    let Some(selector) = selector else {
        return Err(Error::new(Exit::Usage, "which hosts?").hint("`'*'` is all of them"));
    };
    work(cli, async |events| {
        let context = Context::find(cli, events).await?;
        let ssh = Arc::new(Ssh::find().await?);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let ended = each(context.choose(Some(&selector))?, |chosen| {
            let (context, ssh, connections) = (context.clone(), Arc::clone(&ssh), Arc::clone(&connections));
            async move {
                let outcome = back(&context, &ssh, &connections, &chosen, to).await.unwrap_or_else(Some);
                outcome.map(|outcome| context.end(&chosen.name, outcome))
            }
        });
        let ended: Vec<_> = ended.await.into_iter().flatten().collect();
        if ended.is_empty() { Err(context.no_match(Some(&selector))) } else { Ok(ended) }
    })
    .await
}

/// Asked to activated. `None` where the host is not selected; `Err` is how it ended before.
async fn back(
    context: &Context,
    ssh: &Ssh,
    connections: &Semaphore,
    chosen: &Chosen,
    to: Option<u32>,
) -> Result<Option<Outcome>, Outcome> {
    let Some(host) = context.host(chosen).await? else { return Ok(None) };
    let Some(target) = &host.target else { return Err(Outcome::LocalOnly) };
    let enter = |stage| (context.events)(Event::Stage { host: chosen.name.clone(), stage });
    let (mut session, observed) = {
        let _permit = connections.acquire().await;
        enter(Stage::Connect);
        persistently(|| Session::open(ssh, target, None)).await?
    };
    let outcome = activate(&mut session, &observed, to, enter).await;
    session.close().await;
    outcome.map(Some)
}

async fn activate(
    session: &mut Session,
    observed: &Observed,
    to: Option<u32>,
    enter: impl Fn(Stage),
) -> Result<Outcome, Outcome> {
    if let Some(unfit) = observed.unfit() {
        return Err(refused(&unfit.into()));
    }
    if observed.activating {
        return Err(refused(&Refusal::Activating));
    }
    let host_says = |error: bosco_host::Error| troubled(Stage::Activate, &error);
    let generations = session.generations().await.map_err(host_says)?;
    let generation = generations.back(to).map_err(|error| {
        let hint = "`bosco generations` lists what it could go back to";
        Outcome::Refused { reason: error.to_string(), hint: hint.into() }
    })?;
    if generations.is_present(generation) && observed.current.as_ref() == Some(&generation.toplevel) {
        return Err(Outcome::UpToDate { goal: Goal::Switch });
    }
    enter(Stage::Activate);
    session.choose(generation).await.map_err(host_says)?;
    let activation = session.activate(Goal::Switch).await.map_err(host_says)?;
    let ending = judge(Goal::Switch, &activation.results, &activation.log);
    Ok(Outcome::of(Goal::Switch, ending, activation.log))
}

//! `bosco status`.

use std::sync::Arc;

use bosco_model::{Declaration, HostName, Selector, State, Status};
use bosco_wire::Ssh;
use tokio::sync::Semaphore;

use crate::cli::Cli;
use crate::commands::watch;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each};
use crate::outcome::{self, Outcome};
use crate::push::{self, CONNECTIONS};
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, selector: Option<&Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let context = Context::find(watch(&show)).await?;
    let ssh = Arc::new(Ssh::from_environment());
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let answers = each(context.choose(selector)?, |chosen| {
        let (context, ssh, connections) = (context.clone(), Arc::clone(&ssh), Arc::clone(&connections));
        async move { ask(&context, &ssh, &connections, chosen).await }
    })
    .await;
    show.clear();

    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let statuses: Vec<&Status> = answers.iter().filter_map(|answer| answer.as_ref().ok()?.as_ref()).collect();
    if statuses.is_empty() && failed.is_empty() {
        return Err(context.no_match(selector));
    }
    if cli.json {
        show::json(&statuses);
    } else if !statuses.is_empty() {
        let mut table = Table::new(["HOST", "STATE", "RUNS", "WHY"]);
        for status in statuses {
            let runs = status.observed.as_ref().and_then(|seen| seen.current.as_ref());
            table.row([
                status.host.to_string(),
                status.state.to_string(),
                runs.map_or_else(String::new, |path| path.short()),
                status.reason.clone().unwrap_or_default(),
            ]);
        }
        table.print();
    }
    for (name, outcome) in &failed {
        show::failure(name, outcome);
    }
    Ok(outcome::exit(failed.iter().map(|(_, outcome): &&(_, Outcome)| outcome)))
}

/// What a host runs, beside what it should run. `Err` where the latter can't be said.
async fn ask(
    context: &Context,
    ssh: &Ssh,
    connections: &Semaphore,
    chosen: Chosen,
) -> Result<Option<Status>, (HostName, Outcome)> {
    let declared = match context.declaration(&chosen).await {
        Ok(Some(declared)) => declared,
        Ok(None) => return Ok(None),
        Err(outcome) => return Err((chosen.name, outcome)),
    };
    (context.events)(Event::Stage { host: chosen.name, stage: Stage::Connect });
    let _permit = connections.acquire().await;
    let answer = push::connect(ssh, &declared).await;
    let Declaration { host, toplevel, .. } = declared;
    Ok(Some(match answer {
        Ok((session, observed)) => {
            session.close().await;
            let state = State::of(&toplevel, &observed);
            let reason = reason(state, &observed);
            Status { host: host.name, state, should: toplevel, observed: Some(observed), reason }
        }
        Err(outcome) => {
            let state = if outcome == Outcome::LocalOnly { State::LocalOnly } else { State::Offline };
            let reason = (state == State::Offline).then(|| outcome.reason());
            Status { host: host.name, state, should: toplevel, observed: None, reason }
        }
    }))
}

/// What a state leaves to be said.
fn reason(state: State, observed: &bosco_model::Observed) -> Option<String> {
    match state {
        State::Unfit => observed.unfit().map(str::to_owned),
        State::NotCommitted => Some("it runs it, but will boot another system".into()),
        State::BootPending => Some("it runs it from the next boot on".into()),
        State::RebootNeeded => Some("its kernel, initrd or modules are older".into()),
        State::Updating => Some("an activation is under way".into()),
        State::UpToDate | State::Pending | State::Offline | State::LocalOnly => None,
    }
}

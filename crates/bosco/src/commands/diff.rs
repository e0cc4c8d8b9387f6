//! `bosco diff`: what `apply` would change on hosts, or what two releases differ in.

mod of_releases;

use std::collections::BTreeSet;

use bosco_activation::{Plan, plan};
use bosco_model::{Declaration, Goal, HostName, Selector};
use bosco_session::{Others, Wanted};
use serde::Serialize;

use crate::cli::{Cli, Diff};
use crate::commands::{root, stoppable, watch};
use crate::differences::{Compared, Pair, Side, compare, running};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, failed, listen};
use crate::outcome::{self, Outcome};
use crate::push::refused;
use crate::reach::{Reach, troubled};
use crate::show;

/// What `apply` would change.
#[derive(Serialize)]
struct Answer {
    hosts: Vec<Compared>,
    /// Those that are where the fleet wants them.
    unchanged: Vec<HostName>,
    /// Those that can't be told of, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    host: HostName,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A host that something changes on.
struct Seen {
    declared: Declaration,
    before: Side,
    active: Option<BTreeSet<String>>,
}

/// What asking one host came to: `Ok(None)` where nothing changes.
struct Asked {
    host: HostName,
    came: Result<Option<Seen>, Outcome>,
}

pub(crate) async fn run(cli: &Cli, args: &Diff) -> Result<Exit, Error> {
    match args.releases()? {
        Some((from, to)) => of_releases::run(cli, from, to).await,
        None => of_hosts(cli, args.selector()?).await,
    }
}

async fn of_hosts(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let answer = stoppable(&show, async {
        let context = Context::find(cli, watch(&show)).await?;
        let reach = Reach::find(&context).await?;
        let ask = |context, chosen| ask(context, reach.clone(), chosen);
        let asked = context.ask(selector.as_ref(), ask).await?;
        Box::pin(answer(&context, asked)).await
    })
    .await?;
    if cli.json {
        show::json(&answer);
    } else {
        show::differences(&answer.hosts);
        show::unchanged(&answer.unchanged.iter().collect::<Vec<_>>());
        show::failures(answer.failed.iter().map(|Failed { host, outcome }| (host, outcome)));
    }
    Ok(outcome::exit(answer.failed.iter().map(|one| &one.outcome)))
}

/// What a host runs, and what it should. `None` where it is not selected.
async fn ask(context: Context, reach: Reach, chosen: Chosen) -> Option<Asked> {
    let came = match context.declaration(&chosen).await {
        Ok(declared) => look(&context, &reach, declared?).await,
        Err(outcome) => Err(outcome),
    };
    Some(Asked { host: chosen.name, came })
}

async fn look(context: &Context, reach: &Reach, declared: Declaration) -> Result<Option<Seen>, Outcome> {
    let host = &declared.host;
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let turn = || (context.events)(Event::Stage { host: host.name.clone(), stage: Stage::Connect });
    if host.profiles_only {
        let reason = "it gets profiles only, and what is compared are systems";
        let hint = "`bosco status` says whether it has what it should".into();
        return Err(Outcome::Refused { reason: reason.into(), hint });
    }
    let others = declared.others();
    let others = Others::Wanted(&others);
    let wanted = Wanted { toplevel: Some(&declared.toplevel), others, helper: None };
    let (mut session, observed) = reach.open(&host.name, target, wanted, turn).await?;
    let seen = async {
        match plan(Goal::Switch, &declared, None, &observed) {
            Plan::Nothing => return Ok(None),
            Plan::Refuse(refusal) => return Err(refused(&refusal)),
            Plan::Deliver => {}
        }
        let Some(current) = &observed.current else {
            return Err(Outcome::failed(Stage::Connect, "it does not say what it runs", None));
        };
        let seen = running(&context.nix, &mut session, current).await;
        seen.map(Some).map_err(|error| troubled(Stage::Connect, &error))
    };
    let seen = seen.await;
    session.close().await;
    Ok(seen?.map(|(before, active)| Seen { declared, before, active }))
}

/// Builds what is to run, and compares it with what runs.
async fn answer(context: &Context, asked: Vec<Asked>) -> Result<Answer, Error> {
    let root = root()?;
    let mut answer = Answer { hosts: Vec::new(), unchanged: Vec::new(), failed: Vec::new() };
    let mut seen = Vec::new();
    for Asked { host, came } in asked {
        match came {
            Ok(Some(one)) => seen.push(one),
            Ok(None) => answer.unchanged.push(host),
            Err(outcome) => answer.failed.push(Failed { host, outcome }),
        }
    }
    let declared: Vec<Declaration> = seen.iter().map(|one| one.declared.clone()).collect();
    let built = context.nix.build(&context.fleet, &declared, &root, &mut listen(&context.events, None)).await;
    let mut pairs = Vec::new();
    for (Seen { declared, before, active }, built) in seen.into_iter().zip(built) {
        let host = declared.host.name;
        match built {
            Ok(()) => pairs.push(Pair { host, before, after: Side::Here(declared.toplevel), active }),
            Err(error) => answer.failed.push(Failed { host, outcome: failed(Stage::Build, &error) }),
        }
    }
    answer.hosts = compare(&context.nix, &pairs).await?;
    Ok(answer)
}

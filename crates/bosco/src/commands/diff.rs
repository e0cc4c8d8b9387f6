//! `bosco diff`: what `apply` would change on hosts, or what two releases differ in.

mod of_releases;

use bosco_activation::{Plan, plan};
use bosco_model::{Declaration, Digest, Goal, HostName, Observed, Selector};
use bosco_session::{Others, Wanted};
use serde::Serialize;

use crate::bundle::{Bundler, Own, Unmade};
use crate::cli::{Cli, Diff};
use crate::commands::{root, stoppable, watch};
use crate::differences::{Compared, Pair, Side, compare, compared};
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
    pair: Pair,
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
        let bundler = Bundler::new();
        let ask = |context, chosen| ask(context, reach.clone(), bundler.clone(), chosen);
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
async fn ask(context: Context, reach: Reach, bundler: Bundler, chosen: Chosen) -> Option<Asked> {
    let came = match context.declaration(&chosen).await {
        Ok(declared) => look(&context, &reach, &bundler, declared?).await,
        Err(outcome) => Err(outcome),
    };
    Some(Asked { host: chosen.name, came })
}

async fn look(
    context: &Context,
    reach: &Reach,
    bundler: &Bundler,
    declared: Declaration,
) -> Result<Option<Seen>, Outcome> {
    let host = &declared.host;
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let turn = || (context.events)(Event::Stage { host: host.name.clone(), stage: Stage::Connect });
    let others = declared.others();
    let others = Others::Wanted(&others);
    let wanted = Wanted { toplevel: Some(&declared.toplevel), others, helper: None };
    let (mut session, observed) = reach.open(&host.name, target, wanted, turn).await?;
    let seen = async {
        let secrets = secrets(bundler, &declared, &observed).await?;
        match plan(Goal::Switch, &declared, secrets, &observed) {
            Plan::Nothing => return Ok(None),
            Plan::Refuse(refusal) => return Err(refused(&refusal)),
            Plan::Deliver => {}
        }
        let after = Side::Here(declared.toplevel.clone());
        let pair = compared(&context.nix, &mut session, &declared, secrets, &observed, after).await;
        match pair.map_err(|error| troubled(Stage::Connect, &error))? {
            Some(pair) => Ok(Some(pair)),
            None => Err(Outcome::failed(Stage::Connect, "it does not say what it runs", None)),
        }
    };
    let seen = seen.await;
    session.close().await;
    Ok(seen?.map(|pair| Seen { declared, pair }))
}

/// The bundle of secrets that a push would bring.
async fn secrets(
    bundler: &Bundler,
    declared: &Declaration,
    observed: &Observed,
) -> Result<Option<Digest>, Outcome> {
    if declared.host.profiles_only || declared.secrets.is_empty() && observed.secrets.is_none() {
        return Ok(None);
    }
    let own = Own::Said(observed.host_key.as_deref());
    let made = bundler.make(&declared.host, &declared.secrets, own).await;
    made.map(|made| Some(made.digest)).map_err(Unmade::outcome)
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
    for (Seen { pair, .. }, built) in seen.into_iter().zip(built) {
        match built {
            Ok(()) => pairs.push(pair),
            Err(error) => {
                answer.failed.push(Failed { host: pair.host, outcome: failed(Stage::Build, &error) });
            }
        }
    }
    answer.hosts = compare(&context.nix, &pairs).await?;
    Ok(answer)
}

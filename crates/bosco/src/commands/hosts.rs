//! `bosco hosts`.

use bosco_model::{Host, HostName, Selector};
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::Event;
use crate::fleet::{Context, each};
use crate::outcome::{self, Outcome};
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        let evaluated = each(context.choose(selector.as_ref())?, |chosen| {
            let context = context.clone();
            async move {
                let answer = context.host(&chosen).await;
                (context.events)(Event::Done { host: chosen.name.clone() });
                answer.map_err(|outcome| (chosen.name, outcome))
            }
        });
        Ok((evaluated.await, context))
    };
    let (evaluated, context) = stoppable(&show, work).await?;

    let failed: Vec<_> = evaluated.iter().filter_map(|host| host.as_ref().err()).collect();
    let hosts: Vec<&Host> = evaluated.iter().filter_map(|host| host.as_ref().ok()?.as_ref()).collect();
    if hosts.is_empty() && failed.is_empty() {
        return Err(context.no_match(selector.as_ref()));
    }
    if cli.json {
        let listed = evaluated.iter().filter_map(|host| match host {
            Ok(host) => host.as_ref().map(Listed::Host),
            Err((name, outcome)) => Some(Listed::Failed { name, error: outcome.reason() }),
        });
        show::json(&listed.collect::<Vec<_>>());
    } else if !hosts.is_empty() {
        let mut table = Table::new(["HOST", "TARGET", "SYSTEM", "TAGS"]);
        for host in hosts {
            let target =
                host.target.as_ref().map_or_else(|| "(itself only)".into(), |target| target.display());
            let tags: Vec<_> = host.tags.iter().map(|tag| format!("@{tag}")).collect();
            table.row([host.name.to_string(), target, host.system.clone(), tags.join(" ")]);
        }
        table.print();
    }
    for (name, outcome) in &failed {
        show::failure(name, outcome);
    }
    Ok(outcome::exit(failed.iter().map(|(_, outcome): &&(_, Outcome)| outcome)))
}

/// A host in the JSON answer: what is declared of it, or why that can't be said.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed<'a> {
    Host(&'a Host),
    Failed { name: &'a HostName, error: String },
}

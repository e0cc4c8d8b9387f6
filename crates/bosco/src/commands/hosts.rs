//! `bosco hosts`.

use bosco_model::{Host, HostName, Selector};
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::fleet::{Chosen, Context};
use crate::outcome::{self, Outcome};
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        let ask = async |context: Context, chosen: Chosen| match context.host(&chosen).await {
            Ok(host) => host.map(Ok),
            Err(outcome) => Some(Err((chosen.name, outcome))),
        };
        context.ask(selector.as_ref(), ask).await
    };
    let evaluated = stoppable(&show, work).await?;

    let failed: Vec<_> = evaluated.iter().filter_map(|host| host.as_ref().err()).collect();
    let hosts: Vec<&Host> = evaluated.iter().filter_map(|host| host.as_ref().ok()).collect();
    if cli.json {
        let listed = evaluated.iter().map(|host| match host {
            Ok(host) => Listed::Host(host),
            Err((name, outcome)) => Listed::Failed { name, error: outcome.reason() },
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
    show::failures(failed.iter().map(|(name, outcome)| (name, outcome)));
    Ok(outcome::exit(failed.iter().map(|(_, outcome): &&(_, Outcome)| outcome)))
}

/// A host in the JSON answer: what is declared of it, or why that can't be said.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed<'a> {
    Host(&'a Host),
    Failed { name: &'a HostName, error: String },
}

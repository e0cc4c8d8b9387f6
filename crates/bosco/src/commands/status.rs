//! `bosco status`.

mod of_fleet;

use bosco_model::{Activity, Declaration, Selector, State, Status, StorePath};
use bosco_session::{Others, Wanted};

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context};
use crate::hub::Hub;
use crate::outcome::{self, Outcome};
use crate::reach::Reach;
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, watches: bool) -> Result<Exit, Error> {
    match Hub::find(&cli.place).await? {
        Some(hub) => of_fleet::run(cli, selector, watches, &hub).await,
        None if watches => Err(Error::new(Exit::Usage, "there is nothing to watch: the fleet has no hub")
            .hint("without `--watch` the hosts are asked themselves; docs/pull.md says what a hub is")),
        None => directly(cli, selector).await,
    }
}

/// Asks all hosts themselves.
async fn directly(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        let reach = Reach::find(&context).await?;
        let ask = |context, chosen| ask(context, reach.clone(), chosen);
        context.ask(selector.as_ref(), ask).await
    };
    let answers: Vec<Answer> = stoppable(&show, work).await?;
    let statuses: Vec<&Status> = answers.iter().map(|answer| &answer.status).collect();
    if cli.json {
        show::json(&statuses);
    } else {
        let mut table = Table::new(["HOST", "STATE", "RUNS", "WHY"]);
        for status in statuses {
            table.row([
                status.host.to_string(),
                show::state(status.state),
                runs(status),
                status.reason.clone().unwrap_or_default(),
            ]);
        }
        table.print();
    }
    tell(&answers);
    Ok(outcome::exit(answers.iter().filter_map(|answer| answer.trouble.as_ref())))
}

/// What a host runs, as people read it.
fn runs(status: &Status) -> String {
    let runs = status.observed.as_ref().and_then(|seen| seen.current.as_ref());
    runs.map_or_else(String::new, StorePath::short)
}

/// Tells at length what went wrong, but for hosts that are switched off.
fn tell(answers: &[Answer]) {
    let troubles = answers.iter().filter_map(|answer| Some((&answer.status.host, answer.trouble.as_ref()?)));
    show::failures(troubles.filter(|(_, outcome)| !matches!(outcome, Outcome::Offline { .. })));
}

/// What asking one host came to.
struct Answer {
    status: Status,
    /// Why it is not known what it should run, or the host could not be asked.
    trouble: Option<Outcome>,
}

/// What a host runs, beside what it should run. `None` where it is not selected.
async fn ask(context: Context, reach: Reach, chosen: Chosen) -> Option<Answer> {
    let declared = match context.declaration(&chosen).await {
        Ok(declared) => declared?,
        Err(trouble) => {
            let (host, state) = (chosen.name, State::NotEvaluated);
            let reason = trouble.reason().lines().next().map(str::to_owned);
            let status = Status { host, state, should: None, observed: None, reason };
            return Some(Answer { status, trouble: Some(trouble) });
        }
    };
    let name = chosen.name;
    let turn = || (context.events)(Event::Stage { host: name.clone(), stage: Stage::Connect });
    let others = declared.others();
    let answer = match &declared.host.target {
        Some(target) => {
            let others = Others::Wanted(&others);
            let wanted = Wanted { toplevel: Some(&declared.toplevel), others, helper: None };
            reach.open(&name, target, wanted, turn).await
        }
        None => Err(Outcome::LocalOnly),
    };
    let Declaration { host, toplevel, .. } = declared;
    let (state, reason, observed, trouble) = match answer {
        Ok((session, observed)) => {
            session.close().await;
            let state = State::with(&toplevel, &others, &observed);
            (state, reason(state, &toplevel, &observed), Some(observed), None)
        }
        Err(Outcome::LocalOnly) => (State::LocalOnly, None, None, None),
        Err(trouble) => {
            let offline = matches!(trouble, Outcome::Offline { .. });
            let state = if offline { State::Offline } else { State::NoAccess };
            (state, Some(trouble.reason()), None, Some(trouble))
        }
    };
    let status = Status { host: host.name, state, should: Some(toplevel), observed, reason };
    Some(Answer { status, trouble })
}

/// What a state leaves to be said.
fn reason(state: State, should: &StorePath, observed: &bosco_model::Observed) -> Option<String> {
    let last = |words: fn(&Activity) -> String, else_: &str| {
        observed.activity.as_ref().map_or_else(|| else_.to_owned(), words)
    };
    match state {
        State::Unfit => observed.unfit().map(|unfit| unfit.to_string()),
        State::NotCommitted => Some("it runs it, but will boot another system".into()),
        State::BootPending => Some(format!("it runs it from the next boot on{}", unprotected(observed))),
        State::RebootNeeded => Some(format!(
            "its kernel, initrd, modules or kernel parameters are older{}",
            unprotected(observed)
        )),
        State::Updating => {
            Some(last(|last| format!("by {}: {}", last.by, last.words), "an activation is under way"))
        }
        State::Reverted | State::Inconclusive => Some(last(cause, "it was taken back")),
        State::Quarantined => {
            let why = observed.quarantined.get(should);
            let why = why.filter(|why| !why.is_empty()).map_or("it has failed there", String::as_str);
            Some(format!("{why}; `bosco apply --again` tries it again"))
        }
        State::UpToDate
        | State::Pending
        | State::Offline
        | State::NoAccess
        | State::LocalOnly
        | State::NotEvaluated
        // These are a hub's to say.
        | State::New
        | State::Held
        | State::Failing
        | State::Drifted => None,
    }
}

/// What a boot of a host can't promise, behind other words.
fn unprotected(observed: &bosco_model::Observed) -> String {
    if observed.unprotected.is_empty() {
        return String::new();
    }
    format!("; unprotected, should that boot panic or hang: {}", observed.unprotected.join(", "))
}

/// Why an activation was taken back; that it was is its state.
fn cause(last: &Activity) -> String {
    let words = last.words.strip_prefix("reverted: ").or(last.words.strip_prefix("inconclusive: "));
    format!("{}; its log is {} there", words.unwrap_or(&last.words), last.log)
}

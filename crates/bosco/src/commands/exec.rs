//! `bosco exec`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bosco_model::{HostName, Selector};
use bosco_wire::quote;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context};
use crate::outcome::{Outcome, exit_of};
use crate::reach::Reach;
use crate::show;

/// What a command came to on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ran {
    exit_code: i32,
    output: String,
    /// It said more than is kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// What is known so far.
type Answers = BTreeMap<HostName, Result<Ran, Outcome>>;

pub(crate) async fn run(cli: &Cli, selector: &Selector, command: &[String]) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let answers: Arc<Mutex<Answers>> = Arc::default();
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        let reach = Reach::find(&context).await?;
        let command: Arc<str> = line(command).into();
        let ask = |context, chosen: Chosen| {
            let (reach, command, answers) = (reach.clone(), Arc::clone(&command), Arc::clone(&answers));
            async move {
                let ran = ran(&context, &reach, &chosen, &command).await.transpose()?;
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(chosen.name, ran);
                Some(())
            }
        };
        context.ask(Some(selector), ask).await
    };
    let ended = stoppable(&show, work).await;
    // Of hosts that were through before it was stopped, what they said is told all the same.
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    match ended {
        Err(error) if error.exit != Exit::Interrupted || answers.is_empty() => return Err(error),
        _ => {}
    }
    if cli.json {
        show::json(&answers.iter().map(|(host, answer)| Answer::of(host, answer)).collect::<Vec<_>>());
    } else {
        print(&answers);
    }
    if let Err(error) = ended {
        return Err(Error {
            message: "interrupted; what has begun on other hosts may go on there".into(),
            ..error
        });
    }
    Ok(exit_of(answers.values().map(|answer| match answer {
        Ok(Ran { exit_code: 0, .. }) => (Exit::Done, false),
        Ok(_) => (Exit::NotDeployed, false),
        Err(outcome) => (outcome.exit(), *outcome == Outcome::LocalOnly),
    })))
}

/// One host's answer, in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    host: &'a HostName,
    #[serde(flatten)]
    ran: Option<&'a Ran>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> Answer<'a> {
    fn of(host: &'a HostName, answer: &'a Result<Ran, Outcome>) -> Self {
        Self { host, ran: answer.as_ref().ok(), error: answer.as_ref().err().map(Outcome::reason) }
    }
}

/// A command as one line for a shell: one word is a line already.
fn line(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    }
}

/// What the command came to. `None` where the host is not selected.
async fn ran(
    context: &Context,
    reach: &Reach,
    chosen: &Chosen,
    command: &str,
) -> Result<Option<Ran>, Outcome> {
    let Some(host) = context.host(chosen).await? else { return Ok(None) };
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let turn = || (context.events)(Event::Stage { host: chosen.name.clone(), stage: Stage::Connect });
    let session = reach.prepare(&chosen.name, target, command, turn).await?;
    (context.events)(Event::Stage { host: chosen.name.clone(), stage: Stage::Run });
    let ran = session.run().await.map_err(|error| {
        let hint = "the command has begun there, and may go on";
        Outcome::failed(Stage::Run, error.to_string(), Some(hint.into()))
    });
    let bosco_session::Ran { exit_code, output, cut } = ran?;
    Ok(Some(Ran { exit_code, output, cut }))
}

/// What the hosts said, once for all that said the same.
fn print(answers: &Answers) {
    let mut groups: BTreeMap<&Ran, Vec<&HostName>> = BTreeMap::new();
    for (host, answer) in answers {
        if let Ok(ran) = answer {
            groups.entry(ran).or_default().push(host);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (ran, hosts) in groups {
        show::block(&hosts, ran.exit_code, &ran.output, ran.cut);
    }
    show::failures(answers.iter().filter_map(|(host, answer)| Some((host, answer.as_ref().err()?))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_line_and_several_are_words() {
        let of = |words: &[&str]| line(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["df -h | tail"]), "df -h | tail");
        assert_eq!(of(&["echo", "a  b", "$(id)"]), "'echo' 'a  b' '$(id)'");
    }
}

//! `bosco generations`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_model::{Generation, Generations, HostName, Observed, Profile, Selector};
use bosco_session::{Others, Wanted};
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context};
use crate::outcome::{Outcome, exit_of};
use crate::push::refused;
use crate::reach::{Reach, troubled};
use crate::show::{self, Table};

/// What a host has.
struct Has {
    observed: Observed,
    generations: Generations,
    /// Those of its other profiles.
    others: Vec<(Profile, Generations)>,
    /// Whether it gets these only, and no system.
    profiles_only: bool,
}

impl Has {
    /// All generations, each with its profile where that is not the system's, and what it is.
    fn listed(&self) -> Vec<Listed<'_>> {
        let mut listed = Vec::new();
        for generation in self.generations.all().iter().filter(|_| !self.profiles_only) {
            listed.push(Listed { profile: None, generation, is: is(generation, self) });
        }
        for (profile, generations) in &self.others {
            for generation in generations.all() {
                let is = if generations.is_present(generation) { vec!["default"] } else { Vec::new() };
                let profile = Some(format!("{}/{}", profile.user, profile.name));
                listed.push(Listed { profile, generation, is });
            }
        }
        listed
    }
}

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        let reach = Reach::find(&context).await?;
        let ask = |context, chosen: Chosen| {
            let reach = reach.clone();
            async move {
                let answer = ask(&context, &reach, &chosen).await;
                Some((chosen.name, answer.transpose()?))
            }
        };
        context.ask(selector.as_ref(), ask).await
    };
    let answers = stoppable(&show, work).await?;
    if cli.json {
        show::json(&answers.iter().map(|(host, answer)| Answer::of(host, answer)).collect::<Vec<_>>());
    } else {
        print(&answers);
    }
    let troubles = answers.iter().filter_map(|(host, answer)| Some((host, answer.as_ref().err()?)));
    show::failures(troubles.filter(|_| !cli.json));
    Ok(exit_of(answers.iter().map(|(_, answer)| match answer {
        Ok(_) => (Exit::Done, false),
        Err(outcome) => (outcome.exit(), *outcome == Outcome::LocalOnly),
    })))
}

/// What a host has. `None` where it is not selected.
async fn ask(context: &Context, reach: &Reach, chosen: &Chosen) -> Result<Option<Has>, Outcome> {
    let Some(host) = context.host(chosen).await? else { return Ok(None) };
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let turn = || (context.events)(Event::Stage { host: chosen.name.clone(), stage: Stage::Connect });
    let wanted = Wanted { others: Others::Named(&host.profiles), ..Wanted::default() };
    let (mut session, observed) = reach.open(&chosen.name, target, wanted, turn).await?;
    if let Some(unfit) = observed.unfit() {
        session.close().await;
        return Err(refused(&unfit.into()));
    }
    let (generations, others) =
        session.generations().await.map_err(|error| troubled(Stage::Connect, &error))?;
    session.close().await;
    Ok(Some(Has { observed, generations, others, profiles_only: host.profiles_only }))
}

/// One host in the JSON answer.
#[derive(Serialize)]
struct Answer<'a> {
    host: &'a HostName,
    #[serde(skip_serializing_if = "Option::is_none")]
    generations: Option<Vec<Listed<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    /// `USER/NAME`, where it is not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(flatten)]
    generation: &'a Generation,
    is: Vec<&'static str>,
}

impl<'a> Answer<'a> {
    fn of(host: &'a HostName, answer: &'a Result<Has, Outcome>) -> Self {
        let error = answer.as_ref().err().map(Outcome::reason);
        Self { host, generations: answer.as_ref().ok().map(Has::listed), error }
    }
}

/// What a generation is to its host.
fn is(generation: &Generation, has: &Has) -> Vec<&'static str> {
    let is = |path: &Option<_>| path.as_ref() == Some(&generation.toplevel);
    [
        (has.generations.is_present(generation), "default"),
        (is(&has.observed.current), "runs"),
        (is(&has.observed.booted), "booted"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}

fn print(answers: &[(HostName, Result<Has, Outcome>)]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut table = Table::new(["HOST", "PROFILE", "GENERATION", "MADE", "VERSION", "IS"]);
    let mut rows = 0;
    for (host, answer) in answers {
        let Ok(has) = answer else { continue };
        let mut listed = has.listed();
        // Of each profile the newest is what people look for.
        listed.sort_by_key(|one| (one.profile.clone(), std::cmp::Reverse(one.generation.number)));
        for Listed { profile, generation, is } in listed {
            let age = now.saturating_sub(Duration::from_secs(generation.made));
            table.row([
                host.to_string(),
                profile.unwrap_or_else(|| "system".into()),
                generation.number.to_string(),
                format!("{} ago", indicatif::HumanDuration(age)),
                generation.version.clone().unwrap_or_else(|| generation.toplevel.short()),
                is.join(", "),
            ]);
            rows += 1;
        }
    }
    if rows > 0 {
        table.print();
    }
}

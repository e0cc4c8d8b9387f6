//! The status of a fleet with a hub: what the hub says of the hosts that it knows, and what all others say themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use bosco_model::{HostName, Reach as Narrowed, Selector, Status};
use bosco_wire::api::{FleetStatus, HostLine};
use serde::Serialize;

use super::{Answer, ask, directly, runs, tell};
use crate::cli::Cli;
use crate::commands::{stoppable, stopped, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Sink};
use crate::fleet::{Chosen, Context, source};
use crate::hub::{Connection, Hub, Tags};
use crate::outcome;
use crate::reach::Reach;
use crate::show::{self, Table};

/// How long the hub is asked to wait for something new: what is shown says how long ago things were.
const WAIT: Duration = Duration::from_secs(30);
/// How long to wait before a hub that is gone is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is known of one host.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Heard(&'a HostLine),
    Asked(&'a Status),
}

/// Which of the hub's hosts are shown.
struct Shown {
    selector: Option<Selector>,
    tags: Tags,
}

pub(super) async fn run(
    cli: &Cli,
    selector: Option<Selector>,
    watches: bool,
    hub: &Hub,
) -> Result<Exit, Error> {
    if watches && !cli.json && !stdout().is_terminal() {
        return Err(Error::new(Exit::Usage, "`--watch` draws on a terminal, and this is none")
            .hint("with `--json` it prints a line for each change"));
    }
    let show = show::for_answer(cli);
    let events = watch(&show);
    let asked = stoppable(&show, async {
        let mut connection = hub.open().await?;
        let heard: FleetStatus = connection.get("/v1/status").await?;
        let tags = connection.tags(hub, selector.as_ref()).await?;
        let shown = Shown { selector: selector.clone(), tags };
        let answers = others(cli, &events, &heard, selector.as_ref()).await?;
        Ok((connection, heard, shown, answers))
    })
    .await;
    let (connection, heard, shown, answers) = match asked {
        // Hosts can be asked all the same.
        Err(error) if error.exit == Exit::Unreachable && !watches => {
            events(Event::Warning {
                host: None,
                text: format!("{}; the hosts are asked themselves", error.message),
            });
            return directly(cli, selector).await.map(|exit| exit.max(Exit::Unreachable));
        }
        asked => asked?,
    };
    if watches {
        tokio::select! {
            biased;
            () = stopped() => return Ok(Exit::Done),
            never = follow(cli, hub, connection, heard, &shown, &answers) => return never,
        }
    }
    let rows = rows(&heard, &shown, &answers);
    if cli.json {
        show::json(&rows.values().collect::<Vec<_>>());
    } else {
        table(&rows, show::now()).print();
    }
    tell(&answers);
    // The hub has answered for the hosts that it knows: that one of them sleeps is its state, and no trouble.
    Ok(outcome::exit(answers.iter().filter_map(|answer| answer.trouble.as_ref())))
}

/// Asks the hosts of the fleet that the hub does not know.
async fn others(
    cli: &Cli,
    events: &Sink,
    heard: &FleetStatus,
    selector: Option<&Selector>,
) -> Result<Vec<Answer>, Error> {
    let known: BTreeSet<&HostName> = heard.hosts.iter().map(|line| &line.host).collect();
    let names = selector.map(Selector::names).unwrap_or_default();
    let is_known = |name: &String| known.iter().any(|host| host.as_str() == name);
    // Where the fleet itself is not here, the hub's word is all there is.
    if source(&cli.place).is_err() && names.iter().all(is_known) {
        return Ok(Vec::new());
    }
    let context = Context::find(cli, events.clone()).await?;
    for name in names.iter().filter(|name| !is_known(name)) {
        context.knows(name)?;
    }
    let rest = context.fleet.hosts.iter().filter(|host| !known.contains(host));
    let chosen: Vec<Chosen> = rest
        .filter_map(|name| {
            let condition = match selector.map_or(Narrowed::Yes, |selector| selector.narrow(name)) {
                Narrowed::Yes => None,
                Narrowed::No => return None,
                Narrowed::If(condition) => Some(condition),
            };
            Some(Chosen { name: name.clone(), condition })
        })
        .collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let reach = Reach::find(&context).await?;
    Ok(context.ask_these(chosen, |context, chosen| ask(context, reach.clone(), chosen)).await)
}

/// Shows each change, until it is stopped.
async fn follow(
    cli: &Cli,
    hub: &Hub,
    connection: Connection,
    mut heard: FleetStatus,
    shown: &Shown,
    answers: &[Answer],
) -> Result<Exit, Error> {
    let mut connection = Some(connection);
    let (mut pause, mut gone): (Duration, Option<String>) = (AGAIN.0, None);
    let mut told = None;
    loop {
        let now = rows(&heard, shown, answers);
        if !cli.json {
            show::screen();
            table(&now, show::now()).print();
            if let Some(gone) = &gone {
                show::text(&format!("\n{gone}; what is above was so before"));
            }
        } else if told != Some(heard.version) {
            told = Some(heard.version);
            show::json_line(&now.values().collect::<Vec<_>>());
        }
        let asked = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => hub.open().await?,
            };
            let path = format!("/v1/status?since={}&wait={}", heard.version, WAIT.as_secs());
            let answer: Option<FleetStatus> = open.wait(&path, WAIT).await?;
            Ok::<_, Error>((open, answer))
        };
        match asked.await {
            Ok((open, answer)) => {
                heard = answer.unwrap_or(heard);
                (connection, gone, pause) = (Some(open), None, AGAIN.0);
            }
            Err(error) if error.exit == Exit::Unreachable => {
                gone = Some(error.message);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// All hosts that are shown, by their names.
fn rows<'a>(heard: &'a FleetStatus, shown: &Shown, answers: &'a [Answer]) -> BTreeMap<&'a HostName, Row<'a>> {
    let none = BTreeSet::new();
    let is_shown = |line: &&HostLine| {
        let tags = shown.tags.get(&line.host).unwrap_or(&none);
        shown.selector.as_ref().is_none_or(|selector| selector.matches(&line.host, tags))
    };
    let asked = answers.iter().map(|answer| (&answer.status.host, Row::Asked(&answer.status)));
    let heard = heard.hosts.iter().filter(is_shown).map(|line| (&line.host, Row::Heard(line)));
    asked.chain(heard).collect()
}

fn table(rows: &BTreeMap<&HostName, Row<'_>>, now: u64) -> Table {
    let mut table = Table::new(["HOST", "STATE", "RELEASE", "RUNS SINCE", "LAST SEEN", "WHY"]);
    for row in rows.values() {
        let (host, state, cells) = match row {
            Row::Heard(line) => (&line.host, line.state, of_line(line, now)),
            Row::Asked(status) => {
                let why = status.reason.clone().unwrap_or_default();
                let seen = if status.observed.is_some() { "now" } else { "" };
                (&status.host, status.state, [runs(status), String::new(), seen.into(), why])
            }
        };
        let [release, since, seen, why] = cells;
        table.row([host.to_string(), show::state(state), release, since, seen, why]);
    }
    table
}

/// What the hub says of a host: release, since when, last seen, why.
fn of_line(line: &HostLine, now: u64) -> [String; 4] {
    let release = match (line.release, &line.commit) {
        (Some(number), Some(commit)) => format!("{number} {}", show::commit(commit)),
        (Some(number), None) => number.to_string(),
        // It runs what no release has brought.
        (None, _) => line.runs.as_ref().map_or_else(String::new, |path| path.short()),
    };
    let ago = |then: Option<u64>| then.map(|then| show::ago(then, now)).unwrap_or_default();
    let seen = if line.connected { "now".into() } else { ago(line.seen) };
    let alarms = line.alarms.iter().map(|alarm| format!("ALARM: {alarm}"));
    let why: Vec<String> = alarms.chain(line.reason.clone()).collect();
    // Both are a host's words.
    let why = why.join("; ").chars().filter(|c| !c.is_control()).collect();
    [release, ago(line.since), seen, why]
}

#[cfg(test)]
mod tests {
    use bosco_model::{State, StorePath};

    use super::*;

    fn line(name: &str) -> HostLine {
        HostLine {
            host: HostName::parse(name).unwrap(),
            state: State::UpToDate,
            should: None,
            runs: Some(StorePath::parse(&format!("/nix/store/{}-system", "1".repeat(32))).unwrap()),
            since: Some(1000),
            release: Some(12),
            commit: Some("3f2a1bc9d01e".into()),
            connected: true,
            seen: Some(4600),
            reason: None,
            alarms: Vec::new(),
        }
    }

    #[test]
    fn a_host_is_told_by_release_and_commit_and_otherwise_by_what_it_runs() {
        assert_eq!(of_line(&line("web"), 4600), ["12 3f2a1bc", "60m ago", "now", ""].map(str::to_owned));
        let pushed = HostLine { release: None, connected: false, seen: Some(4540), ..line("web") };
        let cells = of_line(&HostLine { reason: Some("fetching".into()), ..pushed }, 4600);
        assert_eq!(cells, ["1111111…-system", "60m ago", "60s ago", "fetching"].map(str::to_owned));
    }

    #[test]
    fn an_alarm_comes_first_and_brings_no_control_characters() {
        let alarms = vec!["two machines have \x1b[31mits key".into()];
        let [.., why] = of_line(&HostLine { alarms, reason: Some("waiting".into()), ..line("web") }, 4600);
        assert_eq!(why, "ALARM: two machines have [31mits key; waiting");
    }

    #[test]
    fn push_and_pull_are_in_one_table_and_a_selector_is_for_both() {
        let heard = FleetStatus { version: 1, release: None, hosts: vec![line("web-1"), line("db")] };
        let asked = |name: &str| Answer {
            status: Status {
                host: HostName::parse(name).unwrap(),
                state: State::Pending,
                should: None,
                observed: None,
                reason: None,
            },
            trouble: None,
        };
        let answers = [asked("web-2")];
        let selector = Some(Selector::parse("web-*").unwrap());
        let rows = rows(&heard, &Shown { selector, tags: Tags::new() }, &answers);
        let names: Vec<&str> = rows.keys().map(|host| host.as_str()).collect();
        assert_eq!(names, ["web-1", "web-2"]);
    }
}

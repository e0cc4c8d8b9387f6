//! For scripts: one event per line.

use bosco_model::HostName;
use serde::Serialize;

use crate::event::Event;
use crate::outcome::{self, Outcome};
use crate::show::Show;

pub(crate) struct Json;

/// The last line.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary", rename_all = "camelCase")]
struct Summary<'a> {
    exit_code: u8,
    hosts: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    host: &'a HostName,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

impl Show for Json {
    fn event(&self, event: &Event) {
        print(event, false);
    }

    fn summary(&self, outcomes: &[(HostName, Outcome)]) {
        let exit_code = outcome::exit(outcomes.iter().map(|(_, outcome)| outcome)).code();
        let hosts = outcomes.iter().map(|(host, outcome)| One { host, outcome }).collect();
        print(&Summary { exit_code, hosts }, false);
    }

    fn clear(&self) {}
}

pub(super) fn print(value: &impl Serialize, pretty: bool) {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    match text {
        Ok(text) => out!("{text}"),
        Err(error) => err!("error: the answer can't be written as JSON: {error}"),
    }
}

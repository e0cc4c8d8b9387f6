//! `bosco approve`.

use std::time::Duration;

use bosco_wire::api::{Approve, JoinLine};

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::Hub;
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli, code: Option<&str>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let hub = Hub::of(&cli.place).await?;
    match code {
        Some(code) => {
            let approve = Approve { code: code.trim().to_lowercase() };
            let approved = async {
                let mut connection = hub.open().await?;
                connection.post("/v1/joins/approve", &approve, Duration::ZERO).await
            };
            let line: JoinLine = stoppable(&show, approved).await?;
            if cli.json {
                show::json(&line);
            } else {
                show::text(&format!("{}: let in with {}", line.host, line.key.fingerprint()));
            }
        }
        None => {
            let asked = async { hub.open().await?.get("/v1/joins").await };
            let lines: Vec<JoinLine> = stoppable(&show, asked).await?;
            if cli.json {
                show::json(&lines);
            } else {
                list(&lines);
            }
        }
    }
    Ok(Exit::Done)
}

fn list(lines: &[JoinLine]) {
    if lines.is_empty() {
        show::text("nobody asks to be let in");
        return;
    }
    let mut table = Table::new(["HOST", "CODE", "KEY", "FROM", "SINCE"]);
    let now = show::now();
    for line in lines {
        table.row([
            line.host.to_string(),
            line.code.clone(),
            line.key.fingerprint(),
            line.from.clone(),
            show::ago(line.since, now),
        ]);
    }
    table.print();
    show::text("compare all of a code with what that machine shows, then: bosco approve CODE");
}

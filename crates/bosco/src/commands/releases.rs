//! `bosco releases`.

use bosco_wire::api::ReleaseLine;

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::Hub;
use crate::show::{self, Table};

pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let lines: Vec<ReleaseLine> = Hub::of(&cli.place).await?.open().await?.get("/v1/releases").await?;
        Ok(lines)
    };
    let mut lines = stoppable(&show, work).await?;
    // The newest is what people look for.
    lines.sort_by_key(|line| std::cmp::Reverse(line.number));
    if cli.json {
        show::json(&lines);
        return Ok(Exit::Done);
    }
    if lines.is_empty() {
        show::text("there is no release yet; `bosco release` makes one");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["RELEASE", "COMMIT", "HOSTS", "BY", "MADE", "EXPIRES"]);
    let now = show::now();
    for line in &lines {
        let expires = match line.expires.checked_sub(now) {
            Some(left) if left > 0 => format!("in {}", show::span(left)),
            _ => "expired".into(),
        };
        table.row([
            line.number.to_string(),
            line.commit.as_deref().map(show::commit).unwrap_or_default(),
            line.hosts.to_string(),
            line.signer.clone(),
            show::ago(line.made, now),
            expires,
        ]);
    }
    table.print();
    if let Some(newest) = lines.first() {
        show::text(newest.level.words());
    }
    Ok(Exit::Done)
}

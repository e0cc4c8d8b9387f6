//! `bosco log`.

use bosco_model::{Goal, HostName};
use bosco_wire::api::ReportLine;

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::Hub;
use crate::outcome::Outcome;
use crate::show;

pub(crate) async fn run(cli: &Cli, host: &HostName, last: u32) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let hub = Hub::of(&cli.place).await?;
        let mut connection = hub.open().await?;
        let hosts = connection.hosts().await?;
        hosts.knows(host.as_str())?;
        let lines: Vec<ReportLine> = connection.get(&format!("/v1/hosts/{host}/reports?last={last}")).await?;
        Ok(lines)
    };
    let lines = stoppable(&show, work).await?;
    if cli.json {
        show::json(&lines);
        return Ok(Exit::Done);
    }
    if lines.is_empty() {
        show::text(&format!("{host} has not reported anything yet"));
    }
    let now = show::now();
    for ReportLine { report, received } in &lines {
        let release = match (report.number, report.automatic) {
            (0, _) => "a push".into(),
            (number, false) => format!("release {number}"),
            (number, true) => format!("release {number}, with newer inputs by itself"),
        };
        // By the hub's clock: the host's own may be wrong.
        let when = show::ago(*received, now);
        let outcome = Outcome::of(Goal::Switch, &report.report, report.log.clone());
        let took = show::span(report.ended.saturating_sub(report.began));
        show::reported(&format!("{host}, {release}, {when}"), &outcome, &took, &report.log, cli.verbose);
    }
    Ok(Exit::Done)
}

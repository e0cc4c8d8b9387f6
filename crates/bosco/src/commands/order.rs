//! What `bosco hold`, `resume` and `trigger` share: hosts are told something by the hub.

use bosco_model::{HostName, Selector};
use bosco_wire::api::Why;
use hyper::Method;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::Hub;
use crate::outcome::exit_of;
use crate::show;

/// What came of telling one host something.
#[derive(Serialize)]
struct Ordered {
    host: HostName,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

/// Tells hosts something by the hub: `words` is what each does then.
pub(super) async fn order(
    cli: &Cli,
    selector: Option<&Selector>,
    verb: &str,
    why: &Why,
    words: &str,
) -> Result<Exit, Error> {
    let Some(selector) = selector else {
        return Err(Error::new(Exit::Usage, "which hosts?").hint("`'*'` is all of them"));
    };
    let show = show::for_answer(cli);
    let ordered = stoppable(&show, async {
        let hub = Hub::of(&cli.place).await?;
        let mut connection = hub.open().await?;
        let (hosts, tags) = (connection.hosts().await?, connection.tags(&hub, Some(selector)).await?);
        let mut ordered = Vec::new();
        for host in hosts.select(selector, &tags)? {
            let told = connection.send(Method::POST, &format!("/v1/hosts/{host}/{verb}"), why).await;
            match told {
                Ok(()) => ordered.push(Ordered { host, error: None, exit: Exit::Done }),
                // The others are told all the same.
                Err(error) if matches!(error.exit, Exit::NotDeployed | Exit::Usage) => {
                    ordered.push(Ordered { host, error: Some(error.message), exit: Exit::NotDeployed });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ordered)
    })
    .await?;
    if cli.json {
        show::json(&ordered);
    } else {
        for Ordered { host, error, .. } in &ordered {
            show::text(&format!("{host}: {}", error.as_deref().unwrap_or(words)));
        }
    }
    Ok(exit_of(ordered.iter().map(|one| (one.exit, false))))
}

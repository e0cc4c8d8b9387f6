//! `bosco forget`.

use bosco_model::HostName;
use bosco_wire::api::Why;
use hyper::Method;

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::Hub;
use crate::show;

pub(crate) async fn run(cli: &Cli, host: &HostName) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let mut connection = Hub::of(&cli.place).await?.open().await?;
        connection.hosts().await?.knows(host.as_str())?;
        connection.send(Method::DELETE, &format!("/v1/hosts/{host}"), &Why::default()).await
    };
    stoppable(&show, work).await?;
    if cli.json {
        show::json(&serde_json::json!({ "host": host, "forgotten": true }));
    } else {
        show::text(&format!("{host}: the hub lets it in no more"));
    }
    Ok(Exit::Done)
}

//! `bosco hub`: the always-on side.

use std::path::Path;

use bosco_hub::Settings;

use crate::cli::{Hub, HubCommand};
use crate::error::{Error, Exit};
use crate::show;

pub(crate) async fn run(hub: &Hub) -> Result<Exit, Error> {
    match &hub.command {
        Some(HubCommand::Key) => key(&hub.state),
        None => {
            let settings =
                Settings { state: hub.state.clone(), listen: hub.listen.clone(), fleet: hub.fleet.clone() };
            bosco_hub::run(&settings).await.map_err(|error| unable(&error))?;
            Ok(Exit::Done)
        }
    }
}

fn key(state: &Path) -> Result<Exit, Error> {
    let key = bosco_hub::key(state).map_err(|error| unable(&error))?;
    show::text(&format!("{key}\n"));
    Ok(Exit::Done)
}

fn unable(error: &bosco_hub::Error) -> Error {
    let exit = if matches!(error, bosco_hub::Error::Fleet { .. }) { Exit::Usage } else { Exit::Unable };
    Error::new(exit, error.to_string())
}

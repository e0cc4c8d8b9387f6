//! Asking a hub to let this machine in.

use std::time::Duration;

use bosco_model::HostName;
use bosco_release::{Key, Trust};
use bosco_wire::api::{JOIN, Join, Joining, LONGEST_WAIT, join_code};
use bosco_wire::http::HttpError;
use bosco_wire::link::{Hub, LinkError, Width};
use tokio::time::sleep;

use crate::config::AgentConfig;
use crate::keep;

/// Between two tries where the connection breaks while somebody makes up their mind.
const AGAIN: Duration = Duration::from_secs(5);

/// How a machine asks to be let in.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// The hub: `HOST:PORT`.
    pub hub: String,
    /// Its key, where it is known here already; the code proves it otherwise.
    pub hub_key: Option<Key>,
    /// Which host this is to be.
    pub host: HostName,
}

/// Why it was not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The hub can't be reached, or is another one.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The hub says no.
    #[error("the hub does not let this machine in: {0}")]
    Refused(String),
    /// Something on this machine.
    #[error("{0}")]
    Here(String),
}

/// Asks, shows the code to be approved by `show`, and waits until an operator has done so. Whom to trust is on the disk then.
///
/// # Errors
/// [`JoinError`].
pub async fn join(
    config: &AgentConfig,
    asked: &JoinConfig,
    show: &mut (dyn FnMut(&str) + Send),
) -> Result<Trust, JoinError> {
    keep::prepare(&config.state).map_err(JoinError::Here)?;
    let identity = config.key().map_err(JoinError::Here)?;
    let own = Key::of(identity.public_key()).map_err(|error| JoinError::Here(error.to_string()))?;
    let mut hub = Hub { address: asked.hub.clone(), keys: asked.hub_key.iter().cloned().collect(), identity };
    let mut shown = false;
    loop {
        let link = match hub.connect(JOIN, Width::Narrow).await {
            Ok(link) => link,
            // It was there a moment ago.
            Err(LinkError::Unreachable { .. } | LinkError::Broken(_)) if shown => {
                sleep(AGAIN).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let key = link.hub_key().cloned().ok_or_else(|| JoinError::Refused("it has no key".into()))?;
        // What was approved is this key, and no other one that may answer later.
        hub.keys = vec![key.clone()];
        let mut http = link.http().await?;
        if !shown {
            shown = true;
            show(&join_code(&asked.host, &own, &key));
        }
        let join = Join { host: asked.host.clone(), wait: LONGEST_WAIT };
        let asked: Result<Joining, _> = http.post("/v1/join", &join, Duration::from_secs(LONGEST_WAIT)).await;
        link.close().await;
        match asked {
            Ok(Joining { trust: Some(trust) }) => {
                let trust = accept(trust, &hub.address, &key)?;
                keep::keep_trust(&config.state, &trust).map_err(JoinError::Here)?;
                return Ok(trust);
            }
            Ok(Joining { trust: None }) => {}
            Err(HttpError::Refused { status: 400..=499, error }) => return Err(JoinError::Refused(error)),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// What is kept of whom a hub says to trust: it must be itself among them.
fn accept(mut trust: Trust, address: &str, key: &Key) -> Result<Trust, JoinError> {
    if trust.hub.is_empty() {
        trust.hub = address.to_owned();
    }
    if trust.hub_keys.is_empty() {
        trust.hub_keys = vec![key.clone()];
    }
    if !trust.hub_keys.contains(key) {
        return Err(JoinError::Refused("it says to trust another hub than itself".into()));
    }
    Ok(trust)
}

#[cfg(test)]
mod tests {
    use bosco_model::FleetName;

    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn a_hub_is_among_those_that_it_says_to_trust() {
        let own = key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ");
        let other = key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti");
        let trust = |hub_keys| Trust {
            version: 1,
            fleet: FleetName::try_from("home".to_owned()).unwrap(),
            signers: Vec::new(),
            hub: String::new(),
            hub_keys,
        };
        let kept = accept(trust(Vec::new()), "hub:7600", &own).unwrap();
        assert_eq!((kept.hub.as_str(), kept.hub_keys), ("hub:7600", vec![own.clone()]));
        assert!(accept(trust(vec![other.clone(), own.clone()]), "hub:1", &own).is_ok());
        assert!(accept(trust(vec![other]), "hub:1", &own).is_err());
    }
}

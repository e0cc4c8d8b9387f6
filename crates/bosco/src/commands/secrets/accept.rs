//! `bosco secrets accept`.

use bosco_model::HostName;
use bosco_release::Key;
use bosco_wire::api::Next;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::hub::{Hub, vouched};
use crate::show;

#[derive(Serialize)]
struct Accepted<'a> {
    host: &'a HostName,
    key: &'a Key,
}

pub(crate) async fn run(cli: &Cli, host: &HostName, fingerprint: &str) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let key = stoppable(&show, async {
        let hub = Hub::of(&cli.place).await?;
        let mut next: Next = hub.open().await?.get("/v1/next").await?;
        let key = one(host, &next.keys.remove(host).unwrap_or_default(), fingerprint)?;
        vouched::accept(hub.rules(), host, &key)?;
        Ok(key)
    })
    .await?;
    if cli.json {
        show::json(&Accepted { host, key: &key });
    } else {
        show::text(&format!("{host}: {} is its key", key.fingerprint()));
    }
    Ok(Exit::Done)
}

/// The key that the operator means, of those that the hub names.
fn one(host: &HostName, named: &[Key], fingerprint: &str) -> Result<Key, Error> {
    let fingerprints: Vec<String> = named.iter().map(Key::fingerprint).collect();
    if let Some((key, _)) = named.iter().zip(&fingerprints).find(|(_, found)| *found == fingerprint.trim()) {
        return Ok(key.clone());
    }
    if named.is_empty() {
        return Err(Error::new(Exit::Usage, format!("the hub knows no key of {host}"))
            .hint(format!("`bosco enroll {host}` lets it in")));
    }
    let message =
        format!("the hub says that the key of {host} is {}: another one", fingerprints.join(" and "));
    Err(Error::new(Exit::NotDeployed, message).hint(format!(
        "if `{fingerprint}` is what the host itself says, somebody has changed what the hub knows; put the host's key into \
         `deployment.publicKeys`, and look after the hub"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_by_its_own_fingerprint_and_no_other() {
        let host = HostName::parse("web").unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let key = Key::parse(key).unwrap();
        let named = [key.clone()];
        assert_eq!(one(&host, &named, &key.fingerprint()).unwrap(), key);
        let other = one(&host, &named, "SHA256:other").unwrap_err();
        assert!(other.exit == Exit::NotDeployed && other.message.contains(&key.fingerprint()));
        assert!(one(&host, &named, "").is_err() && one(&host, &[], "").is_err());
    }
}

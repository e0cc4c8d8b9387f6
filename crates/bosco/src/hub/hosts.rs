//! Which of the hub's hosts somebody means, without evaluating the fleet.

use std::collections::{BTreeMap, BTreeSet};

use bosco_model::{HostName, Selector, Tag};
use bosco_wire::api::FleetStatus;

use crate::error::{Error, Exit};
use crate::hub::{Connection, Hub};
use crate::release::newest;
use crate::suggest::{first_of, near};

/// The hosts that the hub knows.
pub(crate) struct Hosts(pub(crate) BTreeSet<HostName>);

/// Tags of hosts, where they are known.
pub(crate) type Tags = BTreeMap<HostName, BTreeSet<Tag>>;

impl Connection {
    /// The hosts that the hub knows.
    pub(crate) async fn hosts(&mut self) -> Result<Hosts, Error> {
        let status: FleetStatus = self.get("/v1/status").await?;
        Ok(Hosts(status.hosts.into_iter().map(|line| line.host).collect()))
    }

    /// The tags that the newest release has, where a selector asks for any.
    pub(crate) async fn tags(&mut self, hub: &Hub, selector: Option<&Selector>) -> Result<Tags, Error> {
        if selector.is_none_or(|selector| selector.tags().is_empty()) {
            return Ok(Tags::new());
        }
        let newest = newest(self, &hub.rules().all_signers()).await?;
        let manifests = newest.map(|newest| newest.manifests).unwrap_or_default();
        Ok(manifests.into_iter().map(|(host, manifest)| (host, manifest.tags)).collect())
    }
}

impl Hosts {
    /// That the hub knows a host of that name.
    pub(crate) fn knows(&self, name: &str) -> Result<(), Error> {
        if self.0.iter().any(|host| host.as_str() == name) {
            return Ok(());
        }
        let near: Vec<String> =
            near(name, self.0.iter().map(HostName::as_str)).map(|name| format!("`{name}`")).collect();
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let hint = match (near.as_slice(), names.as_slice()) {
            (_, []) => "it knows none; `bosco enroll HOST` lets one in".to_owned(),
            ([], _) => format!("it knows {}; `bosco enroll {name}` lets it in", first_of(&names)),
            (near, _) => format!("did you mean {}?", near.join(" or ")),
        };
        Err(Error::new(Exit::Usage, format!("the hub knows no host `{name}`")).hint(hint))
    }

    /// The hosts that a selector means.
    pub(crate) fn select(&self, selector: &Selector, tags: &Tags) -> Result<Vec<HostName>, Error> {
        for name in selector.names() {
            self.knows(&name)?;
        }
        let none = BTreeSet::new();
        let matches = |host: &&HostName| selector.matches(host, tags.get(*host).unwrap_or(&none));
        let selected: Vec<HostName> = self.0.iter().filter(matches).cloned().collect();
        if selected.is_empty() {
            let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
            let message = format!("no host of the hub's matches `{selector}`");
            return Err(Error::new(Exit::Usage, message).hint(match names.as_slice() {
                [] => "it knows none; `bosco enroll HOST` lets one in".to_owned(),
                names => format!("it knows {}; tags are those of the newest release", first_of(names)),
            }));
        }
        Ok(selected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    #[test]
    fn hosts_are_selected_by_the_names_that_the_hub_knows_and_the_tags_of_the_newest_release() {
        let hosts = Hosts(["db", "web-1", "web-2"].map(host).into());
        let tags: Tags = [(host("db"), [Tag::parse("eu").unwrap()].into())].into();
        let select = |text: &str| hosts.select(&Selector::parse(text).unwrap(), &tags);
        assert_eq!(select("web-*").unwrap(), ["web-1", "web-2"].map(host));
        assert_eq!(select("@eu").unwrap(), ["db"].map(host));
        assert_eq!(select("!@eu").unwrap(), ["web-1", "web-2"].map(host));
        let error = select("web1").unwrap_err();
        assert!(error.exit == Exit::Usage && error.hint.unwrap().contains("`web-1`"));
        assert!(select("@us").unwrap_err().message.contains("@us"));
    }
}

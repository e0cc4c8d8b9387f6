//! What is looked at of each host when a fleet is checked.

use std::collections::BTreeSet;
use std::fmt;

use bosco_model::{DerivationPath, HostName, Tag};
use serde::{Deserialize, Serialize};

use crate::{Error, Fleet, LogLine, Nix};

/// What is asked of a host.
const INSPECT: &str = include_str!("../../../nix/inspect.nix");

/// What a host's configuration says of its keys and secrets.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// What selectors know it by.
    pub tags: BTreeSet<Tag>,
    /// Its own public keys, as its configuration declares them.
    pub public_keys: Vec<String>,
    /// The secrets that it asks for, in the order of their names.
    pub secrets: Vec<AskedSecret>,
    /// The names of its `deployment.keys`.
    pub keys: BTreeSet<String>,
    /// What is secret and stands in the configuration itself: the texts of `deployment.keys`.
    pub texts: Vec<String>,
    /// What makes its toplevel, where that was asked for.
    pub derivation: Option<DerivationPath>,
}

impl fmt::Debug for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets, {} texts", self.secrets.len(), self.texts.len())
    }
}

/// A secret that a host's configuration asks for, with the names of sops-nix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AskedSecret {
    /// Its name.
    pub name: String,
    /// The sops file that it is in, as Nix has its path: in a flake it begins with a store path.
    pub file: String,
    /// Which value of it: keys with `/` between them; all of the file where it is empty.
    pub key: String,
    /// The form of the file: `yaml`, `json`, `dotenv`, `ini` or `binary`.
    pub format: String,
}

#[derive(Serialize)]
struct Question<'a> {
    host: &'a HostName,
    system: bool,
}

impl Nix {
    /// Evaluates which keys a host has and which secrets it asks for, and with `system` what makes its toplevel.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn inspect(
        &self,
        fleet: &Fleet,
        host: &HostName,
        system: bool,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Inspected, Error> {
        fleet.tree(host).transpose()?;
        let expression = Self::question(INSPECT, &Question { host, system })?;
        self.evaluate(&fleet.source, &fleet.trees, &expression, listen).await
    }
}

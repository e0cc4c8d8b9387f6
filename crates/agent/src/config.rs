//! What an agent is started with.

use std::path::PathBuf;
use std::sync::Arc;

use bosco_host::places::Places;
use bosco_model::HostName;
use ssh_key::PrivateKey;

/// Where an agent tells what it does, a line at a time.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What an agent is started with.
#[derive(Clone)]
pub struct AgentConfig {
    /// Where the machine's things are.
    pub places: Places,
    /// Where the agent keeps what it must not forget.
    pub state: PathBuf,
    /// The host's own key: who it is for the hub, and what it signs its reports with.
    pub identity: PathBuf,
    /// The host's name.
    pub host: HostName,
    /// The helper's program.
    pub helper: PathBuf,
    /// Where the host's own sshd listens, for visits.
    pub sshd: String,
    /// On which port of the loopback the page is, where there is one.
    pub page: Option<u16>,
    /// The version that the hub is told.
    pub version: String,
    /// Where it tells what it does.
    pub say: Say,
}

impl AgentConfig {
    /// The host's own key.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn key(&self) -> Result<Arc<PrivateKey>, String> {
        let file = self.identity.display();
        PrivateKey::read_openssh_file(&self.identity)
            .map(Arc::new)
            .map_err(|error| format!("can't read the host's key {file}: {error}"))
    }
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig")
            .field("host", &self.host)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

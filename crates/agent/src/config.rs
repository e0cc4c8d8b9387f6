//! What an agent is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    /// How long it waits for the hub.
    pub patience: Patience,
}

/// How long an agent waits for the hub.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a connection, or a channel in it, may take to be there.
    pub connect: Duration,
    /// How long a greeting may take: others wait for their turn meanwhile.
    pub greeting: Duration,
    /// How long any other answer may take to begin.
    pub answer: Duration,
    /// How long the hub is asked to wait until there is something new.
    pub news: Duration,
    /// Over how long it is counted what comes of a closure.
    pub pace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            news: Duration::from_secs(240),
            pace: Duration::from_secs(60),
        }
    }
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

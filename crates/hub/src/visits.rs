//! An operator's way to a host's sshd, through the connection that its agent holds: the agent is asked to come, and the two
//! are joined.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bosco_model::HostName;
use bosco_wire::stream::Stream;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long an agent may take to come.
const COME: Duration = Duration::from_secs(20);
/// How much is under way in each direction, in bytes.
const PIECE: usize = 64 * 1024;
/// How many may wait for hosts to come.
const MOST: usize = 256;
/// What stands before the name of a visit.
pub(crate) const PREFIX: &str = "visit-";

/// Those who wait.
#[derive(Default)]
pub(crate) struct Visits {
    waiting: Mutex<HashMap<String, Awaited>>,
}

/// Which host is awaited, and where it is to go.
type Awaited = (HostName, oneshot::Sender<Stream>);

/// One who waits.
pub(crate) struct Visit {
    pub(crate) name: String,
    came: oneshot::Receiver<Stream>,
}

impl Visits {
    /// Begins to wait for a host. `None`: too many wait, or there is no chance to be had.
    pub(crate) fn begin(&self, host: &HostName) -> Option<Visit> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let name = format!("{:032x}", u128::from_le_bytes(random));
        let (sender, came) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, sender)| !sender.is_closed());
        if waiting.len() >= MOST {
            return None;
        }
        waiting.insert(name.clone(), (host.clone(), sender));
        Some(Visit { name, came })
    }

    /// Whether somebody waits for this host by that name.
    pub(crate) fn is_awaited(&self, host: &HostName, name: &str) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(name).is_some_and(|(awaited, _)| awaited == host)
    }

    /// A host has come.
    pub(crate) fn come(&self, name: &str, stream: Stream) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = waiting.remove(name) {
            let _ = sender.send(stream);
        }
    }
}

impl Visit {
    /// Waits for the host.
    pub(crate) async fn came(self) -> Option<Stream> {
        timeout(COME, self.came).await.ok()?.ok()
    }
}

/// Joins the two, until both have said all that they have to say.
pub(crate) async fn join(mut operator: Stream, mut host: Stream) {
    let _ = copy_bidirectional_with_sizes(&mut operator, &mut host, PIECE, PIECE).await;
}

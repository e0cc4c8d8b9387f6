//! Who is connected, so that who is let in no more can be sent away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bosco_release::Key;
use russh::Disconnect;
use russh::server::Handle;
use tokio::time::timeout;

use crate::hub::Who;

/// How long a farewell may take; behind it the connection ends by its own limits.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everybody who is connected.
#[derive(Default)]
pub(crate) struct Sessions {
    next: AtomicU64,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    sessions: HashMap<u64, ((Who, Key), Handle)>,
    /// How many connections each key has.
    of_key: HashMap<Key, usize>,
    strangers: usize,
}

impl Sessions {
    /// Somebody is connected. `None`: they have too many connections already.
    pub(crate) fn begin(&self, who: Who, key: Key, handle: Handle, most: usize) -> Option<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let stranger = matches!(who, Who::Stranger(_));
        if all.of_key.get(&key).is_some_and(|count| *count >= most) || stranger && all.strangers >= most {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        *all.of_key.entry(key.clone()).or_default() += 1;
        all.strangers += usize::from(stranger);
        all.sessions.insert(id, ((who, key), handle));
        Some(id)
    }

    /// Somebody is connected no more.
    pub(crate) fn over(&self, id: u64) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(((who, key), _)) = all.sessions.remove(&id) else { return };
        all.strangers -= usize::from(matches!(who, Who::Stranger(_)));
        if let Some(count) = all.of_key.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                all.of_key.remove(&key);
            }
        }
    }

    /// Ends the connections of all who may not stay.
    pub(crate) async fn end(&self, may_stay: impl Fn(&(Who, Key)) -> bool) {
        let go: Vec<Handle> = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.sessions
                .values()
                .filter(|(who, _)| !may_stay(who))
                .map(|(_, handle)| handle.clone())
                .collect()
        };
        for handle in go {
            let farewell = "this key is let in no more".to_owned();
            let _ = timeout(FAREWELL, handle.disconnect(Disconnect::ByApplication, farewell, String::new()))
                .await;
        }
    }
}

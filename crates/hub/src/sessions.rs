//! Who is connected, so that who is let in no more can be sent away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bosco_release::Key;
use bosco_wire::line::Line;
use futures_util::future::join_all;
use russh::Disconnect;
use russh::server::Handle;
use tokio::time::{sleep, timeout};

use crate::hub::Who;

/// How long a farewell may take; behind it the connection is cut.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection can be ended by.
pub(crate) type Ends = (Handle, Line);

/// Sends somebody away. Whoever does not hear it is gone soon after.
pub(crate) async fn farewell(handle: &Handle, line: &Line, reason: Disconnect, words: &str) {
    let _ = timeout(FAREWELL, handle.disconnect(reason, words.to_owned(), String::new())).await;
    let line = line.clone();
    tokio::spawn(async move {
        sleep(FAREWELL).await;
        line.cut();
    });
}

/// Everybody who is connected.
#[derive(Default)]
pub(crate) struct Sessions {
    next: AtomicU64,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    sessions: HashMap<u64, ((Who, Key), Ends)>,
    /// How many connections each key has.
    of_key: HashMap<Key, usize>,
    strangers: usize,
}

impl Sessions {
    /// Somebody is connected. `None`: they have too many connections already.
    pub(crate) fn begin(&self, who: Who, key: Key, ends: Ends, most: usize) -> Option<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let stranger = matches!(who, Who::Stranger(_));
        if all.of_key.get(&key).is_some_and(|count| *count >= most) || stranger && all.strangers >= most {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        *all.of_key.entry(key.clone()).or_default() += 1;
        all.strangers += usize::from(stranger);
        all.sessions.insert(id, ((who, key), ends));
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
        let go: Vec<Ends> = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.sessions.values().filter(|(who, _)| !may_stay(who)).map(|(_, ends)| ends.clone()).collect()
        };
        let words = "this key is let in no more";
        join_all(go.iter().map(|(handle, line)| farewell(handle, line, Disconnect::ByApplication, words)))
            .await;
    }
}

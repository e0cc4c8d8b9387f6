//! Machines that ask to be let in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bosco_model::HostName;
use bosco_release::Key;
use bosco_wire::api::{JoinLine, join_code};
use tokio::sync::watch;

/// How many may ask at once.
const MOST: usize = 64;

/// Everybody who asks.
#[derive(Default)]
pub(crate) struct Joins {
    asking: Mutex<HashMap<Key, Asking>>,
}

struct Asking {
    line: JoinLine,
    /// How many connections wait with it.
    waiting: usize,
    approved: watch::Sender<bool>,
}

/// A machine that waits. It is off the list with its last one.
pub(crate) struct Waiting<'a> {
    joins: &'a Joins,
    key: Key,
    approved: watch::Receiver<bool>,
}

impl Joins {
    /// A machine asks. `None`: too many do.
    pub(crate) fn ask(
        &self,
        host: HostName,
        key: &Key,
        hub: &Key,
        from: &str,
        now: u64,
    ) -> Option<Waiting<'_>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if asking.len() >= MOST && !asking.contains_key(key) {
            return None;
        }
        let code = join_code(&host, key, hub);
        let line = JoinLine { host, key: key.clone(), code, since: now, from: from.to_owned() };
        let entry = asking.entry(key.clone());
        let new = || Asking { line: line.clone(), waiting: 0, approved: watch::Sender::new(false) };
        let one = entry.or_insert_with(new);
        // Who says to be another host shows another code.
        one.line = line;
        one.waiting += 1;
        Some(Waiting { joins: self, key: key.clone(), approved: one.approved.subscribe() })
    }

    /// Who asks.
    pub(crate) fn list(&self) -> Vec<JoinLine> {
        let asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<JoinLine> = asking.values().map(|one| one.line.clone()).collect();
        lines.sort_by(|a, b| a.host.cmp(&b.host).then_with(|| a.code.cmp(&b.code)));
        lines
    }

    /// Who shows this code.
    pub(crate) fn find(&self, code: &str) -> Option<JoinLine> {
        let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        self.list().into_iter().find(|line| plain(&line.code) == plain(&code.to_ascii_lowercase()))
    }

    /// It is let in.
    pub(crate) fn approve(&self, key: &Key) {
        let asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = asking.get(key) {
            one.approved.send_replace(true);
        }
    }
}

impl Waiting<'_> {
    /// Waits until it is let in.
    pub(crate) async fn approved(&mut self) {
        // The other end is on the list for as long as this waits.
        let _ = self.approved.wait_for(|approved| *approved).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut asking = self.joins.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = asking.get_mut(&self.key) {
            one.waiting -= 1;
            if one.waiting == 0 {
                asking.remove(&self.key);
            }
        }
    }
}

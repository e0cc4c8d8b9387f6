//! The secrets of a release: each host's bundle, made before anybody is asked to sign it, and ciphertext only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bosco_model::{Declaration, HostName, Mode};
use bosco_release::Key;
use bosco_wire::api::Next;

use crate::bundle::{Bundler, Carried, Own, Unmade};
use crate::event::Stage;
use crate::hub::Vouched;
use crate::outcome::Outcome;

/// By what the secrets of a release's hosts are sealed.
#[derive(Clone)]
pub(crate) struct Sealing {
    bundler: Bundler,
    /// The keys of its hosts, by the hub's word.
    enrolled: BTreeMap<HostName, Vec<Key>>,
    /// Who else says so.
    vouched: Arc<Vouched>,
}

impl Sealing {
    pub(crate) fn new(next: &Next, vouched: Arc<Vouched>) -> Self {
        Self { bundler: Bundler::new(), enrolled: next.keys.clone(), vouched }
    }

    /// Makes a host's bundle. `None`: it is to have no secrets, or nobody fetches them for it.
    pub(crate) async fn bundle(&self, declared: &Declaration) -> Result<Option<Carried>, Outcome> {
        let Declaration { host, secrets, .. } = declared;
        let enrolled = self.enrolled.get(&host.name).map(Vec::as_slice).unwrap_or_default();
        let is_fetched = host.mode != Mode::Push || !enrolled.is_empty();
        if secrets.is_empty() || !is_fetched {
            return Ok(None);
        }
        // A hub that names a key of its own for a host would read what is sealed to that.
        if !secrets.keys.is_empty() && host.public_keys.is_empty() {
            self.vouched.all(&host.name, enrolled).map_err(|unproven| {
                Outcome::failed(Stage::Evaluate, unproven.words(), Some(unproven.hint()))
            })?;
        }
        let made = self.bundler.make(host, secrets, Own::Enrolled(enrolled)).await;
        made.map(Some).map_err(Unmade::outcome)
    }
}

//! The secrets of a release: each host's bundle, made before anybody is asked to sign it, and ciphertext only.

use std::collections::BTreeMap;

use bosco_model::{Declaration, HostName, Mode};
use bosco_release::Key;
use bosco_wire::api::Next;

use crate::bundle::{Bundler, Carried, Own, Unmade};
use crate::event::{Event, Sink, Stage};
use crate::outcome::Outcome;
use crate::release::Published;

/// By what the secrets of a release's hosts are sealed.
#[derive(Clone)]
pub(crate) struct Sealing {
    bundler: Bundler,
    /// The keys of its hosts, by the hub's word.
    enrolled: BTreeMap<HostName, Vec<Key>>,
    /// The same, by the release before, which somebody has signed.
    signed: BTreeMap<HostName, Vec<Key>>,
}

/// What is to be thought of the key that the hub names for a host.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    /// The release before has it as well.
    Known,
    /// Nobody has said anything else.
    First(&'a Key),
    /// The release before has another one.
    Other(&'a Key),
}

impl Sealing {
    pub(crate) fn new(next: &Next, before: Option<&Published>) -> Self {
        let believed = before.filter(|before| before.doubt.is_none());
        let manifests = believed.iter().flat_map(|before| &before.manifests);
        Self {
            bundler: Bundler::new(),
            enrolled: next.keys.clone(),
            signed: manifests.map(|(host, manifest)| (host.clone(), manifest.keys.clone())).collect(),
        }
    }

    /// Makes a host's bundle. `None`: it is to have no secrets, or nobody fetches them for it.
    pub(crate) async fn bundle(
        &self,
        declared: &Declaration,
        events: &Sink,
    ) -> Result<Option<Carried>, Outcome> {
        let Declaration { host, secrets, .. } = declared;
        let enrolled = self.enrolled.get(&host.name).map(Vec::as_slice).unwrap_or_default();
        let is_fetched = host.mode != Mode::Push || !enrolled.is_empty();
        if secrets.is_empty() || !is_fetched {
            return Ok(None);
        }
        // A hub that names a key of its own for a host would read what is sealed to that.
        if !secrets.keys.is_empty() && host.public_keys.is_empty() {
            let signed = self.signed.get(&host.name).map(Vec::as_slice).unwrap_or_default();
            match word(enrolled, signed) {
                Word::Known => {}
                Word::First(key) => {
                    let text = format!(
                        "its `deployment.keys` are sealed to {}, which the hub says is its key; \
                         `deployment.publicKeys` says it for the fleet",
                        key.fingerprint()
                    );
                    events(Event::Warning { host: Some(host.name.clone()), text });
                }
                Word::Other(key) => {
                    let reason = format!(
                        "the hub says that its key is {}, and the release before has another one: nothing is sealed to it",
                        key.fingerprint()
                    );
                    let hint = "if it has a new key, say so in `deployment.publicKeys`; if it has not, somebody has \
                                changed what the hub knows";
                    return Err(Outcome::failed(Stage::Evaluate, reason, Some(hint.into())));
                }
            }
        }
        let made = self.bundler.make(host, secrets, Own::Enrolled(enrolled)).await;
        made.map(Some).map_err(Unmade::outcome)
    }
}

fn word<'a>(enrolled: &'a [Key], signed: &[Key]) -> Word<'a> {
    match enrolled.iter().find(|key| !signed.contains(key)) {
        None => Word::Known,
        Some(key) if signed.is_empty() => Word::First(key),
        Some(key) => Word::Other(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_only_the_hub_knows_is_told_and_another_than_was_signed_is_none() {
        let key = |text: &str| Key::parse(text).unwrap();
        let one = key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ");
        let two = key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2ZAkfj3ewrgQqVYgTMkYbVnMfmGpTI1DcmmZq9HyNv");
        let [one, two] = [[one], [two]];
        let both = [one[0].clone(), two[0].clone()];
        assert_eq!(word(&one, &[]), Word::First(&one[0]));
        assert_eq!(word(&one, &one), Word::Known);
        assert_eq!(word(&one, &both), Word::Known, "one of two has gone");
        assert_eq!(word(&two, &one), Word::Other(&two[0]));
        assert_eq!(word(&both, &one), Word::Other(&two[0]), "and one that has come reads as well");
        assert_eq!(word(&[], &one), Word::Known);
    }
}

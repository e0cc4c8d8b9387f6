//! Which keys of hosts somebody else than the hub vouches for: the release before, which an operator has signed, and this
//! operator, who has let the host in or said so. A hub that was stolen names a key of its own for a host, and shows an old
//! release or none; nothing is encrypted to what it alone says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use bosco_model::{Digest, HostName, Number};
use bosco_release::{FleetFile, Key, Manifest};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit};
use crate::release::Published;
use crate::state;

/// What an operator has seen of a fleet, kept on their machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    /// The highest number of a release that was believed.
    release: Number,
    /// The keys of hosts: by the highest release, or by the operator's own hand since.
    keys: BTreeMap<HostName, BTreeSet<Key>>,
}

/// Who vouches for which keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vouched {
    seen: Seen,
    signed: BTreeMap<HostName, Vec<Key>>,
    /// Why the release that the hub calls the newest says nothing.
    silent: Option<String>,
}

/// A key that the hub alone names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unproven {
    host: HostName,
    key: Key,
    why: String,
}

impl Vouched {
    /// By the release that the hub calls the newest, and by what is kept here.
    pub(crate) fn of(fleet: &FleetFile, before: Option<&Published>) -> Result<Self, Error> {
        let seen = match place(fleet) {
            Some(path) => state::read(&path).and_then(parse).map_err(|error| unusable(&path, &error))?,
            None => Seen::default(),
        };
        let vouched = Self::new(fleet, seen, before);
        if let Some(before) = before.filter(|_| vouched.silent.is_none()) {
            release(fleet, before.statement.number, &before.manifests)?;
        }
        Ok(vouched)
    }

    fn new(fleet: &FleetFile, seen: Seen, before: Option<&Published>) -> Self {
        let silent = before.and_then(|Published { statement, doubt, .. }| match doubt {
            Some(doubt) => Some(format!("release {} is not believed: {doubt}", statement.number)),
            None if statement.fleet != fleet.fleet => {
                Some(format!("release {} is that of another fleet", statement.number))
            }
            None if statement.number < seen.release => Some(format!(
                "it shows release {} as the newest, and {} was seen",
                statement.number, seen.release
            )),
            None => None,
        });
        let none = || format!("it shows no release, and {} was seen", seen.release);
        let silent = silent.or_else(|| (before.is_none() && seen.release > 0).then(none));
        let believed = before.filter(|_| silent.is_none());
        let manifests = believed.iter().flat_map(|before| &before.manifests);
        let signed = manifests.map(|(host, manifest)| (host.clone(), manifest.keys.clone())).collect();
        Self { seen, signed, silent }
    }

    /// Whether somebody vouches for a host's key.
    fn has(&self, host: &HostName, key: &Key) -> bool {
        self.signed.get(host).is_some_and(|keys| keys.contains(key))
            || self.seen.keys.get(host).is_some_and(|keys| keys.contains(key))
    }

    /// That somebody vouches for all keys that the hub names for a host.
    pub(crate) fn all(&self, host: &HostName, named: &[Key]) -> Result<(), Unproven> {
        named.iter().try_for_each(|key| self.one(host, key))
    }

    /// The same, for one key.
    pub(crate) fn one(&self, host: &HostName, key: &Key) -> Result<(), Unproven> {
        if self.has(host, key) {
            return Ok(());
        }
        let is_known = self.signed.get(host).is_some_and(|keys| !keys.is_empty())
            || self.seen.keys.get(host).is_some_and(|keys| !keys.is_empty());
        let why = match &self.silent {
            Some(why) => why.clone(),
            None if self.signed.get(host).is_some_and(|keys| !keys.is_empty()) => {
                "the release before has another one".into()
            }
            None if is_known => "another one is known here".into(),
            None => "nobody else says so".into(),
        };
        Err(Unproven { host: host.clone(), key: key.clone(), why })
    }

    /// What a release may say of a host's keys: of those that the hub names what the fleet declares or somebody vouches for,
    /// so that no release makes a hub's word an operator's.
    pub(crate) fn signable(&self, host: &HostName, named: &[Key], declared: &[Key]) -> Vec<Key> {
        let is_vouched = |key: &&Key| declared.contains(key) || self.has(host, key);
        let keys: Vec<Key> = named.iter().filter(is_vouched).cloned().collect();
        if !keys.is_empty() {
            return keys;
        }
        if !declared.is_empty() {
            return declared.to_vec();
        }
        self.signed.get(host).cloned().unwrap_or_default()
    }
}

impl Unproven {
    /// One of a host.
    #[cfg(test)]
    pub(crate) fn for_tests(host: &HostName) -> Self {
        Self { host: host.clone(), key: tests::key(tests::ONE), why: "nobody else says so".into() }
    }

    /// What is wrong, as words behind the host's name.
    pub(crate) fn words(&self) -> String {
        format!(
            "the hub says that its key is {}, and {}: nothing is encrypted to it",
            self.key.fingerprint(),
            self.why
        )
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        let (host, fingerprint) = (&self.host, self.key.fingerprint());
        format!(
            "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there. If it is the host's: `bosco secrets \
             accept {host} {fingerprint}`, or put the key into `deployment.publicKeys`. If not, somebody has changed what \
             the hub knows"
        )
    }
}

/// A release that is believed: from then on no older one is, and its keys are the hosts'.
pub(crate) fn release(
    fleet: &FleetFile,
    number: Number,
    manifests: &BTreeMap<HostName, Manifest>,
) -> Result<(), Error> {
    change(fleet, |seen| {
        if number > seen.release {
            seen.release = number;
            let keys = manifests.iter().filter(|(_, manifest)| !manifest.keys.is_empty());
            seen.keys
                .extend(keys.map(|(host, manifest)| (host.clone(), manifest.keys.iter().cloned().collect())));
        }
    })
}

/// The operator knows the keys of a host: these and no others.
pub(crate) fn let_in(fleet: &FleetFile, host: &HostName, keys: &[Key]) -> Result<(), Error> {
    change(fleet, |seen| seen.keys.extend([(host.clone(), keys.iter().cloned().collect())]))
}

/// The operator has compared a key, which is the host's beside those that are known.
pub(crate) fn accept(fleet: &FleetFile, host: &HostName, key: &Key) -> Result<(), Error> {
    change(fleet, |seen| seen.keys.entry(host.clone()).or_default().extend([key.clone()]))
}

fn change(fleet: &FleetFile, change: impl FnOnce(&mut Seen)) -> Result<(), Error> {
    let Some(path) = place(fleet) else { return Ok(()) };
    let changed = state::change(&path, |bytes| {
        let before = parse(bytes)?;
        let mut after = before.clone();
        change(&mut after);
        if after == before { Ok(None) } else { Ok(Some(serde_json::to_vec_pretty(&after)?)) }
    });
    changed.map_err(|error| unusable(&path, &error))
}

/// Where it is kept. Two fleets may have one name, but not one hub.
fn place(fleet: &FleetFile) -> Option<PathBuf> {
    let address = fleet.hub.as_ref().map(|hub| hub.address.as_str()).unwrap_or_default();
    let hub = Digest::of(&[address.as_bytes()]).to_string();
    let name = format!("{}-{}.json", fleet.fleet, hub.get(..16)?);
    Some(state::folder()?.join("fleets").join(name))
}

fn parse(bytes: Option<Vec<u8>>) -> io::Result<Seen> {
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?.unwrap_or_default())
}

fn unusable(path: &std::path::Path, error: &io::Error) -> Error {
    Error::new(Exit::Unable, format!("{}, where the keys of hosts are kept: {error}", path.display()))
        .hint("have your user own it; where it is damaged, remove it, and say anew which keys hosts have")
}

#[cfg(test)]
mod tests {
    use bosco_release::{Statement, Unsealed};

    use super::*;

    pub(super) const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2ZAkfj3ewrgQqVYgTMkYbVnMfmGpTI1DcmmZq9HyNv";

    pub(super) fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn web() -> HostName {
        HostName::parse("web").unwrap()
    }

    fn fleet() -> FleetFile {
        FleetFile::parse("fleet = \"home\"\n").unwrap()
    }

    fn release(number: Number, keys: &[&str]) -> Published {
        let fleet = bosco_model::FleetName::parse("home").unwrap();
        let mut manifest = crate::release::compare::tests::manifest("web");
        manifest.keys = keys.iter().map(|text| key(text)).collect();
        let statement = Statement {
            fleet,
            number,
            root: Digest::of(&[]),
            hosts: 1,
            commit: None,
            made: 0,
            expires: 0,
            hub_builds: false,
        };
        Published { statement, manifests: [(web(), manifest)].into(), doubt: None }
    }

    fn seen(release: Number, keys: &[&str]) -> Seen {
        Seen { release, keys: [(web(), keys.iter().map(|text| key(text)).collect())].into() }
    }

    fn says(seen: Seen, before: Option<&Published>, named: &[&str]) -> Result<(), String> {
        let named: Vec<Key> = named.iter().map(|text| key(text)).collect();
        Vouched::new(&fleet(), seen, before).all(&web(), &named).map_err(|unproven| unproven.words())
    }

    #[test]
    fn a_key_that_the_hub_alone_names_is_told_by_its_fingerprint_and_nothing_is_encrypted_to_it() {
        let why = says(Seen::default(), None, &[ONE]).unwrap_err();
        assert!(why.contains(&key(ONE).fingerprint()) && why.contains("nobody else says so"), "{why}");
        assert_eq!(says(Seen::default(), Some(&release(3, &[ONE])), &[ONE]), Ok(()));
        assert_eq!(says(seen(0, &[ONE]), None, &[ONE]), Ok(()), "the operator has let it in");
        assert_eq!(says(Seen::default(), Some(&release(3, &[ONE, TWO])), &[ONE]), Ok(()), "one has gone");
        let other = says(Seen::default(), Some(&release(3, &[ONE])), &[TWO]).unwrap_err();
        assert!(other.contains("the release before has another one"), "{other}");
        // One that has come reads as well.
        assert!(says(Seen::default(), Some(&release(3, &[ONE])), &[ONE, TWO]).is_err());
        assert!(says(seen(0, &[ONE]), None, &[TWO]).unwrap_err().contains("another one is known here"));
        assert_eq!(says(Seen::default(), None, &[]), Ok(()));
    }

    #[test]
    fn a_hub_that_shows_an_old_release_or_none_or_one_that_is_not_believed_has_nobody_vouch_for_its_key() {
        // The key of a host that was stolen, or of the hub itself.
        let old = release(5, &[TWO]);
        let why = says(seen(7, &[ONE]), Some(&old), &[TWO]).unwrap_err();
        assert!(why.contains("it shows release 5 as the newest, and 7 was seen"), "{why}");
        let why = says(seen(7, &[ONE]), None, &[TWO]).unwrap_err();
        assert!(why.contains("it shows no release, and 7 was seen"), "{why}");
        let forged = Published { doubt: Some(Unsealed::Elsewhere), ..release(9, &[TWO]) };
        let why = says(Seen::default(), Some(&forged), &[TWO]).unwrap_err();
        assert!(why.contains("release 9 is not believed"), "{why}");
        let mut strange = release(9, &[TWO]);
        strange.statement.fleet = bosco_model::FleetName::parse("office").unwrap();
        assert!(says(Seen::default(), Some(&strange), &[TWO]).unwrap_err().contains("another fleet"));
        // What this operator knows holds whatever the hub shows: one that was restored from a backup is no trouble.
        assert_eq!(says(seen(7, &[ONE]), Some(&old), &[ONE]), Ok(()));
        assert_eq!(says(seen(7, &[ONE]), None, &[ONE]), Ok(()));
    }

    #[test]
    fn a_release_says_no_key_that_the_hub_alone_names() {
        let vouched = Vouched::new(&fleet(), Seen::default(), Some(&release(3, &[ONE])));
        let of = |named: &[&str], declared: &[&str]| {
            let keys = |texts: &[&str]| texts.iter().map(|text| key(text)).collect::<Vec<_>>();
            vouched.signable(&web(), &keys(named), &keys(declared))
        };
        assert_eq!(of(&[ONE, TWO], &[]), [key(ONE)]);
        assert_eq!(of(&[TWO], &[]), [key(ONE)], "what was signed stays");
        assert_eq!(of(&[TWO], &[TWO]), [key(TWO)]);
        assert_eq!(of(&[], &[TWO]), [key(TWO)]);
    }
}

//! What a release is made of. Pure.

use std::collections::BTreeSet;

use bosco_model::{HostName, StorePath, Tag};
use bosco_release::{Digest, FleetFile, Hold, Key, Manifest, Policy, Runs, Signer};
use bosco_wire::api::Next;

/// What is known of a host from its evaluation and its build.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) host: HostName,
    pub(crate) tags: BTreeSet<Tag>,
    /// What was evaluated here.
    pub(crate) toplevel: StorePath,
    pub(crate) runs: Runs,
    /// The bundle of its secrets.
    pub(crate) secrets: Option<Digest>,
    pub(crate) policy: Policy,
    /// Whether it is to fetch its part by itself.
    pub(crate) pulls: bool,
    /// Its keys, as its source has them.
    pub(crate) keys: Vec<Key>,
}

/// The manifests of the next release, and what is to be said of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Composed {
    pub(crate) manifests: Vec<Manifest>,
    /// Hosts that are to pull and that the hub does not know: nobody fetches their part yet.
    pub(crate) unknown: Vec<HostName>,
    /// Hosts that the hub knows and the fleet does not declare: they stay where they are.
    pub(crate) undeclared: Vec<HostName>,
    /// Hosts that run what somebody has pushed, which the release contains: they go on with it.
    pub(crate) lifted: Vec<HostName>,
    /// The same, where it contains something else: they stay.
    pub(crate) staying: Vec<(HostName, Hold)>,
}

/// Puts the next release together.
pub(crate) fn compose(parts: &[Part], next: &Next, fleet: &FleetFile) -> Composed {
    let mut composed = Composed::default();
    for part in parts {
        let host = part.host.clone();
        let known = next.keys.get(&host).filter(|keys| !keys.is_empty());
        if known.is_none() && part.pulls {
            composed.unknown.push(host.clone());
        }
        let keys = known.unwrap_or(&part.keys).clone();
        let lifts = match next.holds.get(&host) {
            Some(hold) if hold.is_in(&part.toplevel, part.runs.profiles()) => {
                composed.lifted.push(host.clone());
                hold.number
            }
            Some(hold) => {
                composed.staying.push((host.clone(), hold.clone()));
                0
            }
            None => 0,
        };
        composed.manifests.push(Manifest {
            fleet: fleet.fleet.clone(),
            keys,
            number: next.number,
            runs: part.runs.clone(),
            secrets: part.secrets,
            tags: part.tags.clone(),
            policy: part.policy.clone(),
            trust: fleet.trust_of(&host, &part.tags),
            lifts,
            host,
        });
    }
    let declared: BTreeSet<&HostName> = parts.iter().map(|part| &part.host).collect();
    composed.undeclared = next.keys.keys().filter(|host| !declared.contains(host)).cloned().collect();
    composed
}

impl Composed {
    /// The hosts that do not trust this signer: they won't take the release.
    pub(crate) fn strangers_to(&self, signer: &Signer) -> Vec<&HostName> {
        let manifests = self.manifests.iter();
        let strange =
            manifests.filter(|manifest| !manifest.trust.signers.iter().any(|one| one.key == signer.key));
        strange.map(|manifest| &manifest.host).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bosco_model::{Profile, ProfileAt, ProfileName, Profiles, UserName};
    use bosco_release::SignerKind;

    use super::*;

    pub(in crate::release) const ADA: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const HUB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA2ZAkfj3ewrgQqVYgTMkYbVnMfmGpTI1DcmmZq9HyNv";

    pub(in crate::release) fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    pub(in crate::release) fn path(name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap()
    }

    fn system(toplevel: &str, profiles: Profiles) -> Runs {
        Runs::System { toplevel: path(toplevel), profiles, closure: Digest::of(&[toplevel.as_bytes()]) }
    }

    fn hold(toplevel: &str, profiles: Profiles) -> Hold {
        Hold { number: 6, toplevel: path(toplevel), profiles }
    }

    /// ada's home, and what it names.
    pub(in crate::release) fn home(only: bool, to: &str) -> Profiles {
        let (name, user) = (ProfileName::parse("home").unwrap(), UserName::parse("ada").unwrap());
        let profile = Profile { name, user, place: None };
        Profiles { all: vec![ProfileAt { profile, path: path(to) }], only }
    }

    fn part(name: &str, toplevel: &str) -> Part {
        Part {
            host: host(name),
            tags: BTreeSet::new(),
            toplevel: path(toplevel),
            runs: system(toplevel, Profiles::default()),
            secrets: None,
            policy: Policy::default(),
            pulls: name != "pushed",
            keys: Vec::new(),
        }
    }

    fn fleet() -> FleetFile {
        FleetFile::parse(&format!(
            "fleet = \"home\"\n[hub]\naddress = \"hub:22\"\nkeys = [\"{HUB}\"]\n\
             [operators.ada]\nkeys = [\"{ADA}\"]\nhosts = \"web\"\n"
        ))
        .unwrap()
    }

    fn next(known: &[&str], holds: &[(&str, &str)]) -> Next {
        let key = Key::parse(HUB).unwrap();
        Next {
            number: 7,
            keys: known.iter().map(|name| (host(name), vec![key.clone()])).collect(),
            holds: holds
                .iter()
                .map(|(name, toplevel)| (host(name), hold(toplevel, Profiles::default())))
                .collect(),
            hub_signs: false,
        }
    }

    #[test]
    fn a_hold_is_lifted_where_the_release_has_what_was_pushed_and_stays_elsewhere() {
        let parts = [part("db", "new"), part("web", "new")];
        let composed = compose(&parts, &next(&["db", "web"], &[("db", "pushed"), ("web", "new")]), &fleet());
        let lifts: Vec<u64> = composed.manifests.iter().map(|manifest| manifest.lifts).collect();
        assert_eq!(lifts, [0, 6]);
        assert_eq!(composed.lifted, [host("web")]);
        assert_eq!(composed.staying, [(host("db"), hold("pushed", Profiles::default()))]);
    }

    #[test]
    fn a_hold_of_profiles_is_lifted_where_the_release_has_them() {
        let with = |name: &str, profiles| Part { runs: system("new", profiles), ..part(name, "new") };
        let parts = [with("db", home(false, "2")), with("web", home(false, "2")), part("mail", "new")];
        let mut next = next(&["db", "mail", "web"], &[]);
        next.holds.insert(host("db"), hold("new", home(false, "1")));
        next.holds.insert(host("mail"), hold("new", home(false, "1")));
        next.holds.insert(host("web"), hold("2", home(true, "2")));
        let composed = compose(&parts, &next, &fleet());
        assert_eq!(composed.lifted, [host("web")], "only a profile was pushed");
        let staying: Vec<&HostName> = composed.staying.iter().map(|(host, _)| host).collect();
        assert_eq!(staying, [&host("db"), &host("mail")]);
    }

    #[test]
    fn a_host_that_the_hub_does_not_know_is_part_of_it_and_named() {
        let parts = [part("db", "x"), part("pushed", "x"), part("web", "x")];
        let composed = compose(&parts, &next(&["web", "old"], &[]), &fleet());
        assert_eq!(composed.manifests.len(), 3, "nobody misses one that is only pushed to");
        assert_eq!((composed.unknown, composed.undeclared), (vec![host("db")], vec![host("old")]));
    }

    #[test]
    fn hosts_that_do_not_trust_who_signs_are_named() {
        let composed = compose(&[part("db", "x"), part("web", "x")], &next(&[], &[]), &fleet());
        let ada = Signer { name: "ada".into(), key: Key::parse(ADA).unwrap(), kind: SignerKind::Operator };
        assert_eq!(composed.strangers_to(&ada), [&host("db")], "her grant is for `web`");
    }
}

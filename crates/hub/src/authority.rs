//! Who may publish what. Pure.
//!
//! Grants are judged by the release before: what somebody publishes does not widen what they may. Who may not change a host
//! has to leave it as it is, and may not leave it out.

use std::collections::BTreeMap;

use bosco_model::{HostName, Reach, Selector};
use bosco_release::{FleetFile, Manifest, Signer, SignerKind, Statement};

/// What there was, by host.
pub(crate) type Before<'a> = BTreeMap<&'a HostName, &'a Manifest>;

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) name: &'a str,
    pub(crate) grant: &'a Selector,
}

/// Why a release is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum No {
    /// Somebody else might.
    NotTheirs(String),
    /// Nobody may.
    Wrong(String),
}

/// Whether somebody is granted a host, of which a release has said this before. One that no release has said anything of is
/// known by its name alone: what it is not tagged with means nothing.
pub(crate) fn granted(grant: &Selector, host: &HostName, before: Option<&Manifest>) -> bool {
    match before {
        Some(before) => grant.matches(host, &before.tags),
        None => grant.narrow(host) == Reach::Yes,
    }
}

/// Whether the hub signs for an operator.
pub(crate) fn may_have_signed(fleet: &FleetFile, publisher: Publisher<'_>) -> Result<(), String> {
    if !fleet.hub.as_ref().is_some_and(|hub| hub.signs) {
        return Err("the release is not signed, and this hub does not sign (`hub.signs`)".into());
    }
    if !fleet.operators.get(publisher.name).is_some_and(|operator| operator.signs) {
        return Err(format!("{} may not have releases signed (`operators.{0}.signs`)", publisher.name));
    }
    Ok(())
}

/// Whether somebody may publish this after that. What hosts would refuse, nobody is told to have been published.
pub(crate) fn check(
    fleet: &FleetFile,
    publisher: Publisher<'_>,
    statement: &Statement,
    signer: &Signer,
    before: &Before<'_>,
    manifests: &BTreeMap<HostName, Manifest>,
) -> Result<(), No> {
    if statement.fleet != fleet.fleet {
        let why = format!("the release is of the fleet {}, this is {}'s hub", statement.fleet, fleet.fleet);
        return Err(No::Wrong(why));
    }
    for (host, old) in before {
        if !manifests.contains_key(*host) && !granted(publisher.grant, host, Some(*old)) {
            let why = format!("{host} is missing in the release, and is not yours to leave out");
            return Err(No::NotTheirs(why));
        }
    }
    for (host, new) in manifests {
        let old = before.get(host).copied();
        let is_same = old.is_some_and(|old| old.has_effect_of(new));
        let is_theirs = granted(publisher.grant, host, old) && publisher.grant.matches(host, &new.tags);
        if !is_same && !is_theirs {
            return Err(No::NotTheirs(format!("{host} is not yours to change")));
        }
        let trust = fleet.trust_of(host, &new.tags);
        if !trust.signers.contains(signer) {
            return Err(No::NotTheirs(format!("{} may not sign for {host}", signer.name)));
        }
        // An operator who signs says whom to trust from here on. The hub does not say it for anybody.
        if signer.kind == SignerKind::Hub && new.trust != trust {
            let why = format!(
                "whom {host} is to trust is not what the hub's own bosco.toml says, and the hub signs no other; bring it \
                 the new one first"
            );
            return Err(No::Wrong(why));
        }
        if let Some(old) = old.filter(|old| old.trust != new.trust)
            && new.trust.version <= old.trust.version
        {
            let why = format!(
                "whom {host} is to trust has changed, and its version has not: raise `trust` in bosco.toml above {}",
                old.trust.version
            );
            return Err(No::Wrong(why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bosco_model::{StorePath, Tag};
    use bosco_release::{Digest, Key, Policy, Runs};

    use super::*;

    const ADA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    const CAROL: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";

    fn fleet(signs: bool) -> FleetFile {
        let text = format!(
            "fleet = \"home\"\n[hub]\naddress = \"hub:1\"\nsigns = {signs}\nkeys = [\"{HUB}\"]\n\
             [operators.ada]\nkeys = [\"{ADA}\"]\n\
             [operators.carol]\nkeys = [\"{CAROL}\"]\nhosts = \"@laptop\"\nsigns = false\n"
        );
        FleetFile::parse(&text).unwrap()
    }

    const HUB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn manifest(fleet: &FleetFile, name: &str, tags: &[&str], system: char) -> Manifest {
        let host = HostName::parse(name).unwrap();
        let tags: BTreeSet<Tag> = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        let toplevel = format!("/nix/store/{}-x", system.to_string().repeat(32));
        Manifest {
            fleet: fleet.fleet.clone(),
            keys: Vec::new(),
            number: 1,
            runs: Runs::System {
                toplevel: StorePath::parse(&toplevel).unwrap(),
                profiles: bosco_release::Profiles::default(),
                closure: Digest::of(&[b"x"]),
            },
            secrets: None,
            policy: Policy::default(),
            trust: fleet.trust_of(&host, &tags),
            lifts: 0,
            host,
            tags,
        }
    }

    /// What becomes of this after that, published by somebody and signed by another one.
    fn published(
        by: &str,
        signer: SignerKind,
        before: &[Manifest],
        after: &[Manifest],
    ) -> Result<(), String> {
        let fleet = fleet(true);
        let signer = fleet.all_signers().into_iter().find(|one| one.kind == signer).unwrap();
        let statement = Statement {
            fleet: fleet.fleet.clone(),
            number: 2,
            root: Digest::of(&[]),
            hosts: after.len() as u64,
            commit: None,
            made: 0,
            expires: 0,
            hub_builds: false,
        };
        let grant = &fleet.operators[by].hosts;
        let before = before.iter().map(|manifest| (&manifest.host, manifest)).collect();
        let after = after.iter().map(|manifest| (manifest.host.clone(), manifest.clone())).collect();
        check(&fleet, Publisher { name: by, grant }, &statement, &signer, &before, &after)
            .map_err(|(No::NotTheirs(why) | No::Wrong(why))| why)
    }

    #[test]
    fn nobody_widens_their_grant_by_what_they_publish() {
        let fleet = fleet(true);
        let of = |name, tags: &[&str], system| manifest(&fleet, name, tags, system);
        let before = [of("db", &["server"], 'a'), of("lap", &["laptop"], 'a')];
        let by = |after: &[Manifest]| published("carol", SignerKind::Hub, &before, after);
        let says = |after: &[Manifest], word: &str| {
            let why = by(after).expect_err("it is published");
            assert!(why.contains(word), "{why}");
        };
        by(&[of("db", &["server"], 'a'), of("lap", &["laptop"], 'b')]).unwrap();
        says(&[of("db", &["laptop"], 'b'), of("lap", &["laptop"], 'a')], "db is not yours");
        says(&[of("db", &["laptop"], 'a'), of("lap", &["laptop"], 'a')], "db is not yours");
        says(&[of("db", &["server"], 'a'), of("lap", &["server"], 'a')], "lap is not yours");
        says(&[of("lap", &["laptop"], 'a')], "leave out");
        says(&[], "leave out");
        // What somebody has pushed to a host is not let go of by whom the host is none of the business of.
        let lifted = Manifest { lifts: 7, ..of("db", &["server"], 'a') };
        says(&[lifted, of("lap", &["laptop"], 'a')], "db is not yours");
        let new = [of("db", &["server"], 'a'), of("lap", &["laptop"], 'a'), of("new", &["laptop"], 'a')];
        says(&new, "new is not yours");
        published("ada", SignerKind::Hub, &before, &new).unwrap();
        published("ada", SignerKind::Hub, &before, &[]).unwrap();
    }

    #[test]
    fn the_hub_signs_for_nobody_whom_hosts_are_to_trust() {
        let fleet = fleet(true);
        let before = [manifest(&fleet, "lap", &["laptop"], 'a')];
        let mut forged = before[0].clone();
        forged.trust.version = u64::MAX;
        forged.trust.signers[0].key = Key::parse(CAROL).unwrap();
        let by = |who, signer| published(who, signer, &before, &[forged.clone()]);
        assert!(by("carol", SignerKind::Hub).unwrap_err().contains("bosco.toml"));
        assert!(by("ada", SignerKind::Hub).unwrap_err().contains("bosco.toml"));
        by("ada", SignerKind::Operator).unwrap();
        forged.trust.version = 1;
        let same_version = published("ada", SignerKind::Operator, &before, &[forged]);
        assert!(same_version.unwrap_err().contains("raise `trust`"));
    }

    #[test]
    fn the_hub_signs_only_where_it_should_and_only_for_who_may_sign() {
        let of = |fleet: &FleetFile, name: &str| {
            let grant = fleet.operators[name].hosts.clone();
            may_have_signed(fleet, Publisher { name, grant: &grant }).is_ok()
        };
        assert!(of(&fleet(true), "ada") && !of(&fleet(true), "carol") && !of(&fleet(false), "ada"));
    }
}

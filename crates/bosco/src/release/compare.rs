//! What two releases differ in. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bosco_model::{HostName, StorePath};
use bosco_release::Manifest;
use serde::Serialize;

/// What two releases differ in for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    pub(crate) host: HostName,
    #[serde(flatten)]
    pub(crate) kind: Kind,
    /// What it should run, or builds itself from, before and after; of a host that gets profiles only, what the first of them
    /// should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<StorePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<StorePath>,
}

/// How it differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change", content = "aspects")]
pub(crate) enum Kind {
    Appears,
    Disappears,
    Differs(Vec<Aspect>),
}

/// A part of a manifest that has an effect on its host. Number and time are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aspect {
    /// What it should run.
    System,
    /// What it should have beside its system, or alone.
    Profiles,
    /// What is in all that: the same recipe gave something else.
    Contents,
    /// What it builds itself from.
    Tree,
    /// What is encrypted for it.
    Secrets,
    Tags,
    Policy,
    Keys,
    Trust,
    /// It lets go of what was pushed.
    Resumes,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appears => f.write_str("new in the fleet"),
            Self::Disappears => f.write_str("gone from the fleet"),
            Self::Differs(aspects) => {
                let words: Vec<&str> = aspects.iter().map(|aspect| aspect.words()).collect();
                f.write_str(&words.join(", "))
            }
        }
    }
}

impl Aspect {
    fn words(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Profiles => "profiles",
            Self::Contents => "contents of the same system",
            Self::Tree => "what it builds itself from",
            Self::Secrets => "secrets",
            Self::Tags => "tags",
            Self::Policy => "update policy",
            Self::Keys => "its keys",
            Self::Trust => "whom it trusts",
            Self::Resumes => "goes on from what was pushed",
        }
    }
}

type Manifests = BTreeMap<HostName, Manifest>;

/// What two releases differ in, host by host; nothing of those that are the same in both.
pub(crate) fn compare(before: &Manifests, after: &Manifests) -> Vec<Change> {
    let hosts: BTreeSet<&HostName> = before.keys().chain(after.keys()).collect();
    let change = |host: &&HostName| {
        let (old, new) = (before.get(*host), after.get(*host));
        let kind = match (old, new) {
            (Some(old), Some(new)) => Kind::Differs(Some(aspects(old, new)).filter(|all| !all.is_empty())?),
            (Some(_), None) => Kind::Disappears,
            (None, _) => Kind::Appears,
        };
        let path = |manifest: Option<&Manifest>| manifest.map(|manifest| manifest.runs.path().clone());
        Some(Change { host: (*host).clone(), kind, before: path(old), after: path(new) })
    };
    hosts.iter().filter_map(change).collect()
}

fn aspects(old: &Manifest, new: &Manifest) -> Vec<Aspect> {
    let is_tree = old.runs.is_tree() && new.runs.is_tree();
    let is_system = !is_tree && old.runs.system() != new.runs.system();
    let is_profiles = old.runs.profiles() != new.runs.profiles();
    [
        (is_system, Aspect::System),
        (old.runs != new.runs && is_tree, Aspect::Tree),
        (is_profiles, Aspect::Profiles),
        (old.runs != new.runs && !is_tree && !is_system && !is_profiles, Aspect::Contents),
        (old.secrets != new.secrets, Aspect::Secrets),
        (old.tags != new.tags, Aspect::Tags),
        (old.policy != new.policy, Aspect::Policy),
        (old.keys != new.keys, Aspect::Keys),
        (old.trust != new.trust, Aspect::Trust),
        (old.lifts < new.lifts, Aspect::Resumes),
    ]
    .into_iter()
    .filter_map(|(differs, aspect)| differs.then_some(aspect))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::compose;
    use super::super::compose::tests::{ADA, host, path};
    use super::*;
    use bosco_release::{Digest, FleetFile, Key, Policy, Profiles, Runs};

    fn manifest(name: &str) -> Manifest {
        let fleet = FleetFile::parse("fleet = \"home\"").unwrap();
        Manifest {
            fleet: fleet.fleet.clone(),
            host: host(name),
            keys: Vec::new(),
            number: 1,
            runs: runs("a", b""),
            secrets: None,
            tags: BTreeSet::new(),
            policy: Policy::default(),
            trust: fleet.trust_of(&host(name), &BTreeSet::new()),
            lifts: 0,
        }
    }

    fn runs(name: &str, contents: &[u8]) -> Runs {
        Runs::System { toplevel: path(name), profiles: Profiles::default(), closure: Digest::of(&[contents]) }
    }

    fn with_home(system: &str, home: &str) -> Manifest {
        let closure = Digest::of(&[system.as_bytes(), home.as_bytes()]);
        let profiles = compose::tests::home(false, home);
        let runs = Runs::System { toplevel: path(system), profiles, closure };
        Manifest { runs, ..manifest("web") }
    }

    fn home_only(home: &str) -> Manifest {
        let profiles = compose::tests::home(true, home);
        let runs = Runs::System { toplevel: path(home), profiles, closure: Digest::of(&[home.as_bytes()]) };
        Manifest { runs, ..manifest("web") }
    }

    #[test]
    fn a_profile_alone_is_a_change() {
        for (before, after, words) in [
            (with_home("a", "1"), with_home("a", "2"), "profiles"),
            (with_home("a", "1"), with_home("b", "1"), "system"),
            (with_home("a", "1"), with_home("b", "2"), "system, profiles"),
            (manifest("web"), with_home("a", "1"), "profiles"),
            (home_only("1"), home_only("2"), "profiles"),
            (with_home("a", "1"), home_only("1"), "system, profiles"),
        ] {
            let changes = compare(&release(vec![before]), &release(vec![after]));
            assert_eq!(changes[0].kind.to_string(), words);
        }
        assert_eq!(compare(&release(vec![with_home("a", "1")]), &release(vec![with_home("a", "1")])), []);
    }

    fn release(manifests: Vec<Manifest>) -> Manifests {
        manifests.into_iter().map(|manifest| (manifest.host.clone(), manifest)).collect()
    }

    #[test]
    fn number_and_time_are_no_change_and_everything_else_is() {
        let same = Manifest { number: 2, ..manifest("web") };
        assert_eq!(compare(&release(vec![manifest("web")]), &release(vec![same])), []);
        let trust = bosco_release::Trust { version: 2, ..manifest("web").trust };
        for (other, words) in [
            (Manifest { runs: runs("b", b""), ..manifest("web") }, "system"),
            (Manifest { runs: runs("a", b"x"), ..manifest("web") }, "contents of the same system"),
            (Manifest { secrets: Some(Digest::of(&[b"x"])), ..manifest("web") }, "secrets"),
            (Manifest { tags: [bosco_model::Tag::parse("x").unwrap()].into(), ..manifest("web") }, "tags"),
            (
                Manifest { policy: Policy { interval: 1, ..Policy::default() }, ..manifest("web") },
                "update policy",
            ),
            (Manifest { keys: vec![Key::parse(ADA).unwrap()], ..manifest("web") }, "its keys"),
            (Manifest { trust, ..manifest("web") }, "whom it trusts"),
            (Manifest { lifts: 3, ..manifest("web") }, "goes on from what was pushed"),
        ] {
            let changes = compare(&release(vec![manifest("web")]), &release(vec![other]));
            assert_eq!(changes.len(), 1, "{words}");
            assert_eq!(changes[0].kind.to_string(), words);
        }
    }

    #[test]
    fn what_a_host_builds_itself_from_is_told_from_a_system() {
        let tree = |name: &str| Manifest {
            runs: Runs::Tree {
                tree: path(name),
                closure: Digest::of(&[]),
                self_update: false,
                reboot: false,
            },
            ..manifest("web")
        };
        let told = |before, after| compare(&release(vec![before]), &release(vec![after]))[0].kind.to_string();
        assert_eq!(told(tree("a"), tree("b")), "what it builds itself from");
        assert_eq!(told(manifest("web"), tree("b")), "system");
    }

    #[test]
    fn hosts_come_and_go() {
        let changes = compare(
            &release(vec![manifest("a"), manifest("b")]),
            &release(vec![manifest("b"), manifest("c")]),
        );
        let told: Vec<String> = changes.iter().map(|one| format!("{}: {}", one.host, one.kind)).collect();
        assert_eq!(told, ["a: gone from the fleet", "c: new in the fleet"]);
    }
}

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
    /// What it should run, or builds itself from, before and after.
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
    /// What is in that: the same recipe gave something else.
    Contents,
    /// What it builds itself from.
    Tree,
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
            Self::Contents => "contents of the same system",
            Self::Tree => "what it builds itself from",
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
    [
        (old.runs.path() != new.runs.path() && !is_tree, Aspect::System),
        (old.runs != new.runs && is_tree, Aspect::Tree),
        (old.runs != new.runs && old.runs.path() == new.runs.path() && !is_tree, Aspect::Contents),
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

/// What two closures differ in, package by package, for people: versions, and what has come or gone.
pub(crate) fn packages<'a>(
    before: impl IntoIterator<Item = &'a StorePath>,
    after: impl IntoIterator<Item = &'a StorePath>,
) -> Vec<String> {
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let list = |versions: &BTreeSet<&str>| {
        let words = versions.iter().map(|version| if version.is_empty() { "?" } else { version });
        words.collect::<Vec<_>>().join(", ")
    };
    let line = |name: &str| match (before.get(name), after.get(name)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => Some(format!("{name} {} → {}", list(old), list(new))),
        (Some(old), None) => Some(format!("- {name} {}", list(old))),
        (None, new) => Some(format!("+ {name} {}", new.map(list).unwrap_or_default())),
    };
    // Files of the configuration have no versions: they come and go with every change, and say nothing.
    let is_package = |name: &&str| {
        [&before, &after]
            .iter()
            .any(|all| all.get(name).is_some_and(|all| all.iter().any(|one| !one.is_empty())))
    };
    names.into_iter().filter(is_package).filter_map(line).collect()
}

/// The versions of each package.
fn versions<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut packages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in paths {
        // `/nix/store/HASH-NAME`.
        let Some((_, name)) = path.as_str().rsplit('/').next().and_then(|base| base.split_once('-')) else {
            continue;
        };
        let (name, version) = split(name);
        packages.entry(name).or_default().insert(version);
    }
    packages
}

/// A name and its version, which begins behind the first dash that no letter follows (Nix's manual,
/// `builtins.parseDrvName`).
fn split(name: &str) -> (&str, &str) {
    let dash = name
        .char_indices()
        .find(|(at, c)| *c == '-' && name[at + 1..].starts_with(|next: char| !next.is_ascii_alphabetic()));
    match dash {
        Some((at, _)) => (&name[..at], &name[at + 1..]),
        None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use bosco_release::{Digest, FleetFile, Key, Policy, Runs};
    use proptest::prelude::*;

    use super::super::compose::tests::{ADA, host, path};
    use super::*;

    fn manifest(name: &str) -> Manifest {
        let fleet = FleetFile::parse("fleet = \"home\"").unwrap();
        Manifest {
            fleet: fleet.fleet.clone(),
            host: host(name),
            keys: Vec::new(),
            number: 1,
            runs: runs("a", b""),
            tags: BTreeSet::new(),
            policy: Policy::default(),
            trust: fleet.trust_of(&host(name), &BTreeSet::new()),
            lifts: 0,
        }
    }

    fn runs(name: &str, contents: &[u8]) -> Runs {
        Runs::System { toplevel: path(name), closure: Digest::of(&[contents]) }
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

    #[test]
    fn packages_are_told_by_version_and_files_not_at_all() {
        let before = ["openssl-3.0.14", "vim-9.1", "etc-fstab", "glibc-2.39-52", "linux-6.6.1-modules"];
        let after = ["openssl-3.0.15", "htop-3.3.0", "etc-hosts", "glibc-2.39-52", "linux-6.6.1-modules"];
        let paths = |names: [&str; 5]| names.map(path);
        assert_eq!(
            packages(&paths(before), &paths(after)),
            ["+ htop 3.3.0", "openssl 3.0.14 → 3.0.15", "- vim 9.1"]
        );
    }

    proptest! {
        #[test]
        fn a_name_and_its_version_are_all_of_the_text(text in "[a-z0-9.+_-]{0,20}") {
            let (name, version) = split(&text);
            let whole = format!("{name}-{version}");
            prop_assert!(name == text || whole == text);
        }
    }
}

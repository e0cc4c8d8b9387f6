//! What two closures differ in, package by package. Names and versions are told apart as `nix store diff-closures` does it
//! (Nix's diff-closures.cc and names.cc).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{System, growth};

/// From how many bytes on a change of size is told by itself, as Nix has it.
const WORTH_TELLING: u64 = 8 * 1024;

/// What becomes of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The versions that go; an empty one is none. Where none goes and none comes, only its size changes.
    pub before: Vec<String>,
    /// The versions that come.
    pub after: Vec<String>,
    /// By how many bytes it grows.
    pub bytes: i64,
}

/// The versions of a package with the bytes of all their paths.
#[derive(Default)]
struct Package<'a> {
    versions: BTreeSet<&'a str>,
    size: u64,
}

/// Packages that come, go or change, by their names. Files of a configuration have no version, and come and go with every
/// change: they are told only where they are large. The toplevels themselves are not.
pub(super) fn packages(before: &System, after: &System) -> Vec<PackageChange> {
    let of_one = |system: &System, other: &System| {
        let lacks =
            |path: &&crate::StorePath| !other.closure.contains_key(*path) && **path != system.toplevel;
        system.closure.keys().filter(lacks).map(|path| split(path.name()).0.to_owned()).collect::<Vec<_>>()
    };
    // Of what both have nothing is told, unless a package has something else besides.
    let touched: BTreeSet<String> = of_one(before, after).into_iter().chain(of_one(after, before)).collect();
    let (old, new) = (sorted(before, &touched), sorted(after, &touched));
    let none = Package::default();
    let change = |name: &String| {
        let (old, new) = (old.get(name.as_str()).unwrap_or(&none), new.get(name.as_str()).unwrap_or(&none));
        let versions = |one: &Package<'_>, other: &Package<'_>| {
            one.versions.difference(&other.versions).map(ToString::to_string).collect::<Vec<_>>()
        };
        let (goes, comes) = (versions(old, new), versions(new, old));
        let is_versioned = goes.iter().chain(&comes).any(|version| !version.is_empty());
        let is_large = old.size.abs_diff(new.size) >= WORTH_TELLING;
        (is_versioned || is_large).then(|| PackageChange {
            name: name.clone(),
            before: goes,
            after: comes,
            bytes: growth(old.size, new.size),
        })
    };
    touched.iter().filter_map(change).collect()
}

/// What a system has of some packages.
fn sorted<'a>(system: &'a System, names: &BTreeSet<String>) -> BTreeMap<&'a str, Package<'a>> {
    let mut packages: BTreeMap<&str, Package<'_>> = BTreeMap::new();
    for (path, size) in &system.closure {
        let (name, version) = split(path.name());
        if *path != system.toplevel && names.contains(name) {
            let package = packages.entry(name).or_default();
            package.versions.insert(version);
            package.size = package.size.saturating_add(*size);
        }
    }
    packages
}

/// The name and the version of a store path. What looks like an output (`-bin`, `-lib32`) is taken off first; the version
/// begins behind the first dash that no letter follows.
fn split(path: &str) -> (&str, &str) {
    let is_output = |word: &str| {
        matches!(word, "lib32" | "lib64")
            || !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let path = match path.rsplit_once('-') {
        Some((rest, output)) if is_output(output) => rest,
        _ => path,
    };
    let is_version = |at: usize| path[at + 1..].starts_with(|next: char| !next.is_ascii_alphabetic());
    match path.match_indices('-').find(|(at, _)| is_version(*at)) {
        Some((at, _)) => (&path[..at], &path[at + 1..]),
        None => (path, ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_versions_are_those_of_nix() {
        for (path, name, version) in [
            ("openssl-3.0.14", "openssl", "3.0.14"),
            ("openssl-3.0.14-bin", "openssl", "3.0.14"),
            ("gcc-13.2.0-lib", "gcc", "13.2.0"),
            ("glibc-2.39-52", "glibc", "2.39-52"),
            ("linux-6.6.1-modules", "linux", "6.6.1"),
            ("wine-9.0-lib32", "wine", "9.0"),
            ("unit-nginx.service", "unit-nginx.service", ""),
            ("etc-fstab", "etc", ""),
            ("source", "source", ""),
            ("-", "-", ""),
            ("a-", "a-", ""),
        ] {
            assert_eq!(split(path), (name, version), "{path}");
        }
    }

    proptest! {
        #[test]
        fn name_and_version_begin_the_text_and_nothing_panics(text in "[a-z0-9.+_-]{0,20}") {
            let (name, version) = split(&text);
            let whole = if version.is_empty() { name.to_owned() } else { format!("{name}-{version}") };
            prop_assert!(text.starts_with(&whole));
        }
    }
}

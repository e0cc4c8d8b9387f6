//! What is in a closure: every path with the hash of its contents. A store path says how a thing was made; this says what
//! it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bosco_model::StorePath;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::Digest;

/// The most paths that a closure may have.
const MOST: usize = 200_000;

/// One path of a closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathContents {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its archive (NAR).
    pub hash: Digest,
    /// How many bytes the archive has.
    pub size: u64,
    /// What it refers to, itself perhaps included.
    pub references: BTreeSet<StorePath>,
    /// Who vouches for it elsewhere, as `cache.nixos.org-1:…`. Not part of the digest: it proves itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// How a content-addressed path came by its name; empty for others. Not part of the digest: the name proves it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
}

/// All paths of a closure, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Vec<PathContents>")]
pub struct Contents(BTreeMap<StorePath, PathContents>);

/// Paths do not make a closure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentsError {
    /// One is there twice.
    #[error("{0} is in the closure twice")]
    Twice(StorePath),
    /// One refers to what is not there.
    #[error("{path} refers to {missing}, which is not in the closure")]
    Open {
        /// Who refers.
        path: StorePath,
        /// To what.
        missing: StorePath,
    },
    /// There are too many.
    #[error("a closure has at most {MOST} paths")]
    TooMany,
}

impl Contents {
    /// Makes a closure of paths.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub fn new(paths: Vec<PathContents>) -> Result<Self, ContentsError> {
        if paths.len() > MOST {
            return Err(ContentsError::TooMany);
        }
        let mut map = BTreeMap::new();
        for contents in paths {
            if let Some(twice) = map.insert(contents.path.clone(), contents) {
                return Err(ContentsError::Twice(twice.path));
            }
        }
        for contents in map.values() {
            if let Some(missing) = contents.references.iter().find(|path| !map.contains_key(*path)) {
                return Err(ContentsError::Open { path: contents.path.clone(), missing: missing.clone() });
            }
        }
        Ok(Self(map))
    }

    /// The closure digest: over path, hash, size and references of every path.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut text = String::from("bosco-closure-1\n");
        for PathContents { path, hash, size, references, .. } in self.0.values() {
            text += &format!("{path} {hash} {size}");
            for reference in references {
                text.push(' ');
                text += reference.as_str();
            }
            text.push('\n');
        }
        Digest::of(&[text.as_bytes()])
    }

    /// What is known of a path.
    #[must_use]
    pub fn get(&self, path: &StorePath) -> Option<&PathContents> {
        self.0.get(path)
    }

    /// All of it, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PathContents> {
        self.0.values()
    }

    /// The closure of one path, of several whose closures these are together; nothing where it is not among them.
    pub fn of(&self, path: &StorePath) -> impl Iterator<Item = &PathContents> {
        let mut due: Vec<&PathContents> = self.get(path).into_iter().collect();
        let mut found = BTreeMap::new();
        while let Some(one) = due.pop() {
            if found.insert(&one.path, one).is_none() {
                due.extend(one.references.iter().filter_map(|path| self.get(path)));
            }
        }
        found.into_values()
    }

    /// How many bytes all archives have.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.values().fold(0, |sum, contents| sum.saturating_add(contents.size))
    }
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Paths)
    }
}

/// Reads the paths of a closure, and no more than one may have: whoever gives more is not believed a word.
struct Paths;

impl<'de> Visitor<'de> for Paths {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the paths of a closure")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Contents, A::Error> {
        let mut paths = Vec::new();
        while let Some(one) = from.next_element()? {
            if paths.len() == MOST {
                return Err(A::Error::custom(ContentsError::TooMany));
            }
            paths.push(one);
        }
        Contents::new(paths).map_err(A::Error::custom)
    }
}

impl From<Contents> for Vec<PathContents> {
    fn from(contents: Contents) -> Self {
        contents.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::SeqDeserializer;

    use super::*;

    #[test]
    fn of_several_paths_each_has_its_own_closure() {
        let path = |name: &str| StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let one = |name: &str, references: &[&str]| PathContents {
            path: path(name),
            hash: Digest::of(&[name.as_bytes()]),
            size: 1,
            references: references.iter().map(|name| path(name)).collect(),
            signatures: Vec::new(),
            address: String::new(),
        };
        let all = vec![
            one("system", &["both", "system"]),
            one("home", &["both", "own"]),
            one("both", &[]),
            one("own", &[]),
        ];
        let all = Contents::new(all).unwrap();
        let of = |name| all.of(&path(name)).map(|one| one.path.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(of("system"), ["both", "system"]);
        assert_eq!(of("home"), ["both", "home", "own"]);
        assert!(of("other").is_empty());
    }

    #[test]
    fn a_closure_without_end_is_read_no_further_than_one_may_go() {
        let path = format!("/nix/store/{}-x", "0".repeat(32));
        let hash = "0".repeat(64);
        let one = serde_json::json!({ "path": path, "hash": hash, "size": 1, "references": [] });
        let endless = SeqDeserializer::<_, serde_json::Error>::new(std::iter::repeat(one));
        let refused = Contents::deserialize(endless).unwrap_err().to_string();
        assert_eq!(refused, "a closure has at most 200000 paths");
    }
}

//! Secrets in what is to be built: everybody on the machine can read the store.
//!
//! Looked through are the derivations of the hosts' toplevels and the files that they are made from, as they stand in the
//! store here; nothing is built. What is larger than a file that somebody writes is passed over.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use bosco_model::{DerivationPath, HostName, StorePath};
use bosco_nix::Nix;
use zeroize::Zeroizing;

use crate::error::{Error, Exit};
use crate::finding::Finding;

/// The largest path that is looked through, in bytes.
const MAX_PATH: u64 = 1 << 20;
/// The most that is looked through, in bytes.
const MAX_ALL: u64 = 512 << 20;
/// The shortest text that is looked for: shorter ones stand everywhere.
const SHORTEST: usize = 8;
/// The most of them.
const MOST: usize = 10_000;

/// Something that must not be in the store.
pub(crate) struct Needle {
    /// What it is, in words.
    pub(crate) what: String,
    /// It itself.
    pub(crate) text: Zeroizing<Vec<u8>>,
}

/// Looks for plaintexts.
pub(crate) struct Search {
    what: Vec<String>,
    /// Which of `what` each pattern is of.
    of: Vec<usize>,
    search: AhoCorasick,
}

impl Search {
    /// `None` where nothing is worth looking for.
    pub(crate) fn new(needles: &[Needle]) -> Result<Option<Self>, Error> {
        let mut what = Vec::new();
        let mut of = Vec::new();
        let mut patterns: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for needle in needles.iter().filter(|needle| is_telling(&needle.text)).take(MOST) {
            let text = needle.text.trim_ascii();
            let escaped = escaped(text);
            if escaped.as_slice() != text {
                of.push(what.len());
                patterns.push(escaped);
            }
            of.push(what.len());
            patterns.push(Zeroizing::new(text.to_vec()));
            what.push(needle.what.clone());
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        let search = AhoCorasick::new(patterns.iter().map(|pattern| pattern.as_slice()));
        let search = search
            .map_err(|error| Error::new(Exit::Unable, format!("secrets can't be looked for: {error}")))?;
        Ok(Some(Self { what, of, search }))
    }

    /// What is in some bytes.
    fn found(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let found = self.search.find_overlapping_iter(bytes);
        found
            .filter_map(|found| self.what.get(*self.of.get(found.pattern().as_usize())?))
            .map(String::as_str)
            .collect()
    }

    /// Looks through what the hosts' toplevels are made from.
    pub(crate) async fn run(
        &self,
        nix: &Nix,
        hosts: &[(HostName, DerivationPath)],
    ) -> Result<Vec<Finding>, Error> {
        let roots: Vec<StorePath> =
            hosts.iter().filter_map(|(_, path)| StorePath::parse(path.as_str()).ok()).collect();
        if roots.is_empty() {
            return Ok(Vec::new());
        }
        let (store, infos) = nix.store_here()?.closure(&roots).await?;
        let mut all = 0;
        let small = infos.into_iter().filter(|info| {
            let fits = info.size <= MAX_PATH && all + info.size <= MAX_ALL;
            all += if fits { info.size } else { 0 };
            fits
        });
        let small: Vec<_> = small.collect();
        let mut archives = store.archives(small);
        let mut findings = Vec::new();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Some(info) = archives.begin() {
            bytes.clear();
            loop {
                match archives.read(&mut buffer).await? {
                    0 => break,
                    read => bytes.extend_from_slice(&buffer[..read]),
                }
            }
            for what in self.found(&bytes) {
                let hint = "everybody on the host can read the store: let the service read the file of the secret, such \
                            as `config.sops.secrets.NAME.path`, or a template";
                findings.push(Finding::error(format!("{what} stands in clear in {}", info.path), hint));
            }
        }
        Ok(findings)
    }
}

/// Whether a text can hardly be there by chance.
fn is_telling(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let is_word = || text.iter().all(|byte| byte.is_ascii_lowercase() || b".-_/:".contains(byte));
    let is_number = || text.iter().all(u8::is_ascii_digit);
    text.len() >= SHORTEST && !(text.len() < 20 && (is_word() || is_number()))
}

/// As a derivation has it: in quotes.
fn escaped(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut escaped = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for byte in text {
        match byte {
            b'"' | b'\\' => escaped.extend([b'\\', *byte]),
            b'\n' => escaped.extend(*b"\\n"),
            b'\r' => escaped.extend(*b"\\r"),
            b'\t' => escaped.extend(*b"\\t"),
            byte => escaped.push(*byte),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(text: &str) -> Needle {
        Needle { what: format!("secret {}", text.len()), text: Zeroizing::new(text.as_bytes().to_vec()) }
    }

    #[test]
    fn a_secret_is_found_as_it_is_and_as_a_derivation_has_it() {
        let search =
            Search::new(&[needle("two \"lines\"\nof it\n"), needle("hunter2hunter2")]).unwrap().unwrap();
        assert_eq!(search.found(b"x two \"lines\"\nof it y").len(), 1);
        assert_eq!(search.found(br#"("text","two \"lines\"\nof it\nhunter2hunter2")"#).len(), 2);
        assert!(search.found(b"hunter2").is_empty());
    }

    #[test]
    fn what_stands_everywhere_is_not_looked_for() {
        let words = ["", "short", "postgresql", "12345678", "db.example.org\n"];
        assert!(Search::new(&words.map(needle)).unwrap().is_none());
    }
}

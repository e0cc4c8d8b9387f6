//! Whether every secret that is asked for is there for those who are to have it, and for nobody else. Pure.

use std::collections::BTreeSet;

use bosco_model::HostName;
use bosco_secrets::sops::Format;

use super::MEND_KEYS;
use super::readers::{Asked, Book, Kept, Reader};
use crate::finding::Finding;
use crate::hub::Unproven;

/// What puts recipients right.
const REKEY: &str = "`bosco secrets rekey` encrypts it to its hosts and operators";

/// All that is wrong with a fleet's secrets.
pub(crate) fn audit(book: &Book) -> Vec<Finding> {
    let mut findings: Vec<Finding> = book.asked.iter().filter_map(|asked| of_asked(book, asked)).collect();
    for (host, keys) in &book.hosts {
        let invalid = keys.invalid.as_ref().map(|why| Finding::error(why.clone(), MEND_KEYS).of(host));
        findings.extend(invalid);
    }
    for host in book.asked.iter().map(|asked| &asked.host).collect::<BTreeSet<_>>() {
        if keys_of(book, host).is_empty() && invalid(book, host).is_none() {
            findings
                .push(Finding::error("it asks for secrets, and its key is not known", no_key(host)).of(host));
        }
    }
    for (file, kept) in &book.files {
        match kept {
            Ok(kept) => findings.extend(of_file(book, file, kept)),
            // Where it is asked for, that says so.
            Err(_) if book.asked_of(file).next().is_some() => {}
            Err(why) => {
                let hint = "no host asks for it; take it back from git, or encrypt it anew with sops";
                findings.push(Finding::warning(why.clone(), hint).at(file));
            }
        }
    }
    // Without operators it is what says who they are.
    for (reader, named) in book.named.iter().filter(|_| !book.operators.is_empty()) {
        if !book.knows(reader) {
            let what = format!("it names {}, who is not of the fleet", book.name(reader));
            let hint =
                "take it out: by the rules that name it, what is encrypted from now on can be read by it";
            findings.push(Finding::warning(what, hint).at(&named.file).line(named.line));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// What to do for a host without a key.
pub(crate) fn no_key(host: &HostName) -> String {
    format!(
        "put its public key into `deployment.publicKeys`: `ssh-keyscan -t ed25519 {host}`, or \
         /etc/ssh/ssh_host_ed25519_key.pub there"
    )
}

fn keys_of<'a>(book: &'a Book, host: &HostName) -> &'a [Reader] {
    book.hosts.get(host).map(|keys| keys.readers.as_slice()).unwrap_or_default()
}

/// Where the hub alone says that a key is a host's.
fn unproven<'a>(book: &'a Book, host: &HostName, key: &Reader) -> Option<&'a Unproven> {
    book.hosts.get(host)?.unproven.get(key)
}

/// What keeps a host from a secret that it asks for, but for who the recipients are.
fn of_asked(book: &Book, asked: &Asked) -> Option<Finding> {
    let Asked { host, name, key, format, .. } = asked;
    let file = match &asked.file {
        Ok(file) => file,
        Err(path) => {
            let what = format!("the secret `{name}` is in {path}, which is not among the fleet's files");
            return Some(Finding::warning(what, "bosco looks only at files of the fleet").of(host));
        }
    };
    let kept = match book.files.get(file) {
        Some(Ok(kept)) => kept,
        Some(Err(why)) => {
            let what = format!("the secret `{name}` can't be read: {why}");
            let hint = "`git add` it where git does not know it, take it back from git where it is damaged, or encrypt it with sops";
            return Some(Finding::error(what, hint).at(file).of(host));
        }
        None => {
            let what = format!("the secret `{name}` is to be in this file, which is not there");
            let hint = format!("`bosco secrets edit {file}` makes it; a flake sees only what git knows");
            return Some(Finding::error(what, hint).at(file).of(host));
        }
    };
    if format != kept.format.as_str() {
        let what =
            format!("the secret `{name}` is to be of {format}, and this file is read as {}", kept.format);
        let hint = format!("`sops.secrets.{name}.format` says what it is");
        return Some(Finding::error(what, hint).at(file).of(host));
    }
    let Lack { what, hint } = lack(file, name, kept.format, key, &kept.names)?;
    Some(Finding::error(what, hint).at(file).of(host))
}

/// A file that has not the value that is asked for.
pub(crate) struct Lack {
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// Whether a file, with these values, has not the one that a secret is. Needs no key: the names are not encrypted.
pub(crate) fn lack(file: &str, name: &str, format: Format, key: &str, names: &[String]) -> Option<Lack> {
    if format.is_whole(key) || names.iter().any(|found| found == key) {
        return None;
    }
    let below = format!("{key}/");
    let why = match names.iter().any(|found| found.starts_with(&below)) {
        true => "not one value",
        false => "not in this file",
    };
    let near = crate::suggest::near(key, names.iter().map(String::as_str)).next();
    let hint = near.map_or_else(
        || format!("`bosco secrets edit {file}` adds it, or `sops.secrets.{name}.key` names another one"),
        |near| format!("did you mean `{near}`? `sops.secrets.{name}.key` names it"),
    );
    Some(Lack { what: format!("the secret `{name}` is `{key}`, which is {why}"), hint })
}

/// What is wrong with a file's recipients.
fn of_file(book: &Book, file: &str, kept: &Kept) -> Vec<Finding> {
    let mut findings = Vec::new();
    let asking: BTreeSet<&HostName> = book.asked_of(file).map(|asked| &asked.host).collect();
    if kept.readers.is_empty() {
        let what = format!("it is encrypted to {} only, which no host opens", kept.others.join(", "));
        let hint = "who has one of these keys can add age recipients: `sops updatekeys`";
        let finding =
            if asking.is_empty() { Finding::warning(what, hint) } else { Finding::error(what, hint) };
        return vec![finding.at(file)];
    }
    if kept.groups {
        let hint = "its recipients are left alone; a host opens only files without key groups";
        let finding = Finding::warning("it has key groups", hint);
        findings.push(if asking.is_empty() {
            finding
        } else {
            Finding { level: crate::finding::Level::Error, ..finding }
        });
    }
    for host in &asking {
        let keys = keys_of(book, host);
        let missing = || keys.iter().filter(|key| !kept.readers.contains(key));
        let new = missing().find_map(|key| unproven(book, host, key));
        let missing = missing().count();
        if let Some(unproven) = new {
            findings.push(Finding::error(unproven.words(), unproven.hint()).of(host));
        } else if missing > 0 && missing == keys.len() {
            findings.push(Finding::error("the file is not encrypted to this host", REKEY).of(host));
        } else if missing > 0 {
            let what = "the file is encrypted to one of the host's keys, and not to the other";
            findings.push(Finding::error(what, REKEY).of(host));
        }
        for (name, operator) in book.operators_of(host) {
            if operator.readers.iter().any(|key| !kept.readers.contains(key)) {
                findings.push(Finding::error(format!("it is not encrypted to the operator {name}"), REKEY));
            }
        }
    }
    for reader in kept.readers.iter().filter(|reader| !book.knows(reader)) {
        let what = format!("it is encrypted to {}, who is not of the fleet", book.name(reader));
        let finding = if book.operators.is_empty() {
            let hint = "name the key in `.sops.yaml`, or its owner in `bosco.toml`: `[operators.NAME]` with `recipients`";
            if book.named.is_empty() { Finding::warning(what, hint) } else { Finding::error(what, hint) }
        } else {
            let hint = "`bosco secrets rekey` takes it out, and what it could read has to be changed; if it is an \
                        operator's, name it in `bosco.toml`: `[operators.NAME]` with `recipients`";
            Finding::error(what, hint)
        };
        findings.push(finding);
    }
    findings.into_iter().map(|finding| finding.at(file)).collect()
}

/// Why it can't be decided to whom a file should be encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsettled {
    pub(crate) host: HostName,
    /// What is not known, in words.
    pub(crate) why: String,
    pub(crate) hint: String,
}

impl Unsettled {
    /// The key of a host is not known.
    fn no_key(book: &Book, host: &HostName) -> Self {
        let (why, hint) = match invalid(book, host) {
            Some(why) => (format!("{host}: {why}"), MEND_KEYS.to_owned()),
            None => (format!("the key of {host} is not known"), no_key(host)),
        };
        Self { host: host.clone(), why, hint }
    }

    /// The hub alone says which key it has.
    fn unproven(host: &HostName, unproven: &Unproven) -> Self {
        Self { host: host.clone(), why: format!("{host}: {}", unproven.words()), hint: unproven.hint() }
    }
}

fn invalid<'a>(book: &'a Book, host: &HostName) -> Option<&'a String> {
    book.hosts.get(host)?.invalid.as_ref()
}

/// To whom a file should be encrypted. `Ok(None)`: its recipients are not bosco's to say. `Err` names the host whose key
/// is not known: without that nobody may take recipients away.
pub(crate) fn wanted(book: &Book, file: &str) -> Result<Option<BTreeSet<Reader>>, Unsettled> {
    let kept = book.files.get(file).map(Result::as_ref);
    let present: BTreeSet<Reader> = match kept {
        Some(Ok(kept)) if kept.groups || !kept.others.is_empty() => return Ok(None),
        Some(Err(_)) => return Ok(None),
        Some(Ok(kept)) => kept.readers.clone(),
        None => BTreeSet::new(),
    };
    let asking: BTreeSet<&HostName> = book.asked_of(file).map(|asked| &asked.host).collect();
    let is_host = |reader: &&Reader| book.hosts.values().any(|keys| keys.readers.contains(reader));
    // Without operators it can't be told who else is to go.
    let is_kept = |reader: &&Reader| match book.operators.is_empty() {
        true => !is_host(reader) || asking.is_empty(),
        false => asking.is_empty() && book.knows(reader),
    };
    let mut wanted: BTreeSet<Reader> = present.iter().filter(is_kept).cloned().collect();
    if asking.is_empty() {
        let of_all = book.operators.values().filter(|one| one.hosts == bosco_model::Selector::everything());
        wanted.extend(of_all.flat_map(|one| one.readers.clone()));
    }
    for host in asking {
        let keys = keys_of(book, host);
        if keys.is_empty() {
            return Err(Unsettled::no_key(book, host));
        }
        // One that is there already was put there by somebody else.
        let is_new = |key: &&Reader| !present.contains(key);
        if let Some(unproven) = keys.iter().filter(is_new).find_map(|key| unproven(book, host, key)) {
            return Err(Unsettled::unproven(host, unproven));
        }
        wanted.extend(keys.iter().cloned());
        wanted.extend(book.operators_of(host).flat_map(|(_, one)| one.readers.clone()));
    }
    // For a file that is not there yet, and has no operators, whom the fleet's own rules name.
    if present.is_empty() && book.operators.is_empty() {
        wanted.extend(book.named.keys().filter(|reader| !is_host(reader)).cloned());
    }
    Ok((!wanted.is_empty()).then_some(wanted))
}

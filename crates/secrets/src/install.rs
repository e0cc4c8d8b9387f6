//! What is to be put where, and what is to be restarted for it: computed from what is declared, carried and opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bosco_model::Digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::declared::{Declared, DeclaredSecret, DeclaredTemplate, Owned};
use crate::sops::{self, File, Format, Opened};
use crate::{
    Bundle, CiphertextKind, FileId, FileName, FilePath, Identity, Key, Secret, SecretName, UnitName,
    UnsealError, unseal,
};

/// How the placeholder of a secret begins and ends in a template.
const PLACEHOLDER: (&[u8], &[u8]) = (b"<SOPS:", b":PLACEHOLDER>");
/// How long the hash in between is, in hexadecimal digits.
const HASH: usize = 64;
/// The largest template once it is filled in, in bytes.
const MAX_RENDERED: usize = 16 << 20;

/// A secret or a filled-in template that can be put in its place.
pub struct Placed<'a> {
    /// What it is called in its folder.
    pub name: &'a SecretName,
    /// What is in it.
    pub bytes: Secret,
    /// Whose it is, and where.
    pub owned: &'a Owned,
    /// Whether it is a filled-in template.
    pub template: bool,
    /// It has to be there before users are made.
    pub needed_for_users: bool,
}

/// One of `deployment.keys` that can be put in its place.
pub struct PlacedKey<'a> {
    /// The name of its unit, without `-key.service`.
    pub name: &'a FileName,
    /// Where it goes, and when.
    pub key: &'a Key,
    /// What is in it.
    pub bytes: Secret,
}

/// Why one secret, template or key can't be put in its place. The others can.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} `{name}`: {trouble}")]
pub struct NotPlaced {
    /// A secret, a template or a key.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub trouble: Trouble,
}

/// What can be wrong with a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Trouble {
    /// The bundle has nothing for it.
    #[error("its file was not carried to this host; deploy the host again")]
    NotCarried,
    /// The bundle has another form than the system expects.
    #[error("its file `{file}` was carried as {carried}, and the system declares it as {declared}")]
    Format {
        /// The file.
        file: FileId,
        /// As what it was carried.
        carried: Format,
        /// As what it is declared.
        declared: Format,
    },
    /// Its file can't be opened.
    #[error("its file `{file}` can't be opened: {why}")]
    Sops {
        /// The file.
        file: FileId,
        /// What is wrong.
        why: sops::Error,
    },
    /// A key can't be opened.
    #[error("it can't be opened: {0}")]
    Unseal(#[from] UnsealError),
    /// A template uses a secret that could not be opened.
    #[error("it needs the secret `{0}`, which can't be opened")]
    Needs(SecretName),
    /// A template uses a secret that is none.
    #[error("it has a placeholder of a secret that the system does not declare")]
    UnknownPlaceholder,
    /// A template that grows without end.
    #[error("it has more than {MAX_RENDERED} bytes once it is filled in")]
    TooLong,
}

/// Opens the secrets that a system declares, and fills in its templates. Each file is opened once.
#[must_use]
pub fn secrets<'a>(
    declared: &'a Declared,
    bundle: &Bundle,
    identities: &[Identity],
) -> (Vec<Placed<'a>>, Vec<NotPlaced>) {
    let (mut placed, mut failed) = (Vec::new(), Vec::new());
    let mut files = BTreeMap::new();
    for secret in &declared.secrets {
        match value(secret, bundle, identities, &mut files) {
            Ok(bytes) => placed.push(Placed {
                name: &secret.name,
                bytes,
                owned: &secret.owned,
                template: false,
                needed_for_users: secret.needed_for_users,
            }),
            Err(trouble) => {
                failed.push(NotPlaced { what: "the secret", name: secret.name.to_string(), trouble });
            }
        }
    }
    let rendered: Vec<_> = {
        let values: HashMap<&SecretName, &Secret> = placed.iter().map(|it| (it.name, &it.bytes)).collect();
        let by_hash: HashMap<String, (&SecretName, Option<&Secret>)> = declared
            .secrets
            .iter()
            .map(|secret| (hash(&secret.name), (&secret.name, values.get(&secret.name).copied())))
            .collect();
        declared.templates.iter().map(|template| (template, render(template, &by_hash))).collect()
    };
    for (template, rendered) in rendered {
        match rendered {
            Ok(bytes) => placed.push(Placed {
                name: &template.name,
                bytes,
                owned: &template.owned,
                template: true,
                needed_for_users: false,
            }),
            Err(trouble) => {
                failed.push(NotPlaced { what: "the template", name: template.name.to_string(), trouble });
            }
        }
    }
    (placed, failed)
}

/// Opens the `deployment.keys` of a bundle.
#[must_use]
pub fn keys<'a>(bundle: &'a Bundle, identities: &[Identity]) -> (Vec<PlacedKey<'a>>, Vec<NotPlaced>) {
    let (mut placed, mut failed) = (Vec::new(), Vec::new());
    for (name, key) in bundle.keys() {
        let opened = match bundle.files().get(&key.file) {
            Some(file) => unseal(&file.data, identities).map_err(Trouble::Unseal),
            None => Err(Trouble::NotCarried),
        };
        match opened {
            Ok(bytes) => placed.push(PlacedKey { name, key, bytes }),
            Err(trouble) => failed.push(NotPlaced { what: "the key", name: name.to_string(), trouble }),
        }
    }
    (placed, failed)
}

/// Files that were opened already, or could not be.
type Files<'b> = BTreeMap<&'b FileId, Result<Opened, sops::Error>>;

fn value<'b>(
    secret: &DeclaredSecret,
    bundle: &'b Bundle,
    identities: &[Identity],
    files: &mut Files<'b>,
) -> Result<Secret, Trouble> {
    let id = &bundle.secrets().get(&secret.name).ok_or(Trouble::NotCarried)?.file;
    let file = bundle.files().get(id).ok_or(Trouble::NotCarried)?;
    let CiphertextKind::Sops { format } = file.kind else { return Err(Trouble::NotCarried) };
    if format != secret.format {
        return Err(Trouble::Format { file: id.clone(), carried: format, declared: secret.format });
    }
    let open = || File::parse(&file.data, format).and_then(|file| file.open(identities));
    let found = match files.entry(id).or_insert_with(open) {
        Ok(opened) => opened.value(&secret.key),
        Err(why) => Err(why.clone()),
    };
    found.map_err(|why| Trouble::Sops { file: id.clone(), why })
}

/// What stands for a secret in its placeholder.
fn hash(name: &SecretName) -> String {
    Digest::of(&[name.as_str().as_bytes()]).to_string()
}

/// Fills in a template, once: what a secret says is never taken for a placeholder.
fn render(
    template: &DeclaredTemplate,
    by_hash: &HashMap<String, (&SecretName, Option<&Secret>)>,
) -> Result<Secret, Trouble> {
    // Twice over the text: its length first, so that no copy is left behind where it grows.
    let parts = parts(template.content.as_bytes(), by_hash)?;
    let length = parts.iter().map(|part| part.len()).sum();
    if length > MAX_RENDERED {
        return Err(Trouble::TooLong);
    }
    let mut rendered = Vec::with_capacity(length);
    for part in parts {
        rendered.extend_from_slice(part);
    }
    Ok(Secret::new(rendered))
}

fn parts<'t>(
    mut text: &'t [u8],
    by_hash: &'t HashMap<String, (&SecretName, Option<&Secret>)>,
) -> Result<Vec<&'t [u8]>, Trouble> {
    let (begin, end) = PLACEHOLDER;
    let mut parts = Vec::new();
    while let Some(at) = text.windows(begin.len()).position(|window| window == begin) {
        let (before, from) = text.split_at(at);
        let inner = &from[begin.len()..];
        let Some(digits) = inner.get(..HASH).filter(|_| inner[HASH..].starts_with(end)) else {
            // Something else that begins so.
            let (plain, rest) = text.split_at(at + begin.len());
            parts.push(plain);
            text = rest;
            continue;
        };
        parts.push(before);
        let found = std::str::from_utf8(digits).ok().and_then(|digits| by_hash.get(digits));
        match found {
            None => return Err(Trouble::UnknownPlaceholder),
            Some((name, None)) => return Err(Trouble::Needs((*name).clone())),
            Some((_, Some(secret))) => parts.push(secret.expose()),
        }
        text = &inner[HASH + end.len()..];
    }
    parts.push(text);
    Ok(parts)
}

/// The hashes of what was put in place, by path.
///
/// Keep them where the secrets are and no longer: whoever reads the hash of a short secret can guess it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(BTreeMap<FilePath, Digest>);

impl Hashes {
    /// Those of what is to be put in place.
    #[must_use]
    pub fn of(placed: &[Placed<'_>]) -> Self {
        Self(placed.iter().map(|it| (it.owned.path.clone(), Digest::of(&[it.bytes.expose()]))).collect())
    }
}

/// What is to be done once secrets are in their places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Units to restart, if they run.
    pub restart: BTreeSet<UnitName>,
    /// Units to reload, if they run, and are not restarted.
    pub reload: BTreeSet<UnitName>,
}

/// Which units have to hear of it: those of what is new or says something else than before.
#[must_use]
pub fn changes(placed: &[Placed<'_>], before: &Hashes) -> Changes {
    let mut changes = Changes::default();
    let now = Hashes::of(placed);
    for Placed { owned, .. } in placed {
        if before.0.get(&owned.path) != now.0.get(&owned.path) {
            changes.restart.extend(owned.restart_units.iter().cloned());
            changes.reload.extend(owned.reload_units.iter().cloned());
        }
    }
    changes.reload.retain(|unit| !changes.restart.contains(unit));
    changes
}

#[cfg(test)]
mod tests;

//! A manifest with its proof: what a host is given, and what it must find before it believes any of it.

use bosco_model::{FleetName, HIGHEST};
use serde::{Deserialize, Serialize};
use ssh_key::SshSig;
use thiserror::Error;

use crate::{Digest, Key, Manifest, Number, RELEASE_NAMESPACE, Signer, Trust, tree};

/// The longest manifest or statement that is read, in bytes.
const LONGEST: usize = 256 * 1024;

/// What is signed: one text for all hosts of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    /// The fleet.
    pub fleet: FleetName,
    /// The number of the release.
    pub number: Number,
    /// The root of the tree over its manifests.
    pub root: Digest,
    /// How many manifests there are.
    pub hosts: u64,
    /// Which commit it is made from, where that can be said.
    #[serde(default)]
    pub commit: Option<String>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When a host that has heard of nothing newer should raise the alarm, in seconds since 1970.
    pub expires: u64,
    /// Whether the hub has built it.
    #[serde(default)]
    pub hub_builds: bool,
}

/// A host's manifest, the way up to the root, and the signature over that. The texts are kept as they were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// A [`Statement`], as text.
    pub statement: String,
    /// Its SSHSIG, as `ssh-keygen -Y sign` writes it.
    pub signature: String,
    /// A [`Manifest`], as text.
    pub manifest: String,
    /// Which leaf of the tree it is.
    pub index: u64,
    /// The way up from it.
    pub way: Vec<Digest>,
}

/// A manifest that belongs to a signed release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What was signed.
    pub statement: Statement,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's leaf: what it is known by.
    pub leaf: Digest,
    /// Who has signed it.
    pub signer: Signer,
}

/// Why a manifest is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unsealed {
    /// It is too long to be one.
    #[error("it is longer than any manifest")]
    TooLong,
    /// The signature can't be read, or was made for something else.
    #[error("its signature can't be read: {0}")]
    Signature(String),
    /// The key is of a kind that is not read here.
    #[error("it is signed with {key}, which is {kind}: of such no signature can be verified here")]
    OtherKind {
        /// Its fingerprint.
        key: String,
        /// What it is, in words.
        kind: String,
    },
    /// The key is good for nothing here.
    #[error("it is signed with {0}, which nobody has who may sign for this host")]
    Stranger(String),
    /// The signature is not one over this.
    #[error("its signature by {0} is wrong")]
    Forged(String),
    /// The text is none that this bosco understands.
    #[error("it can't be understood: {0}")]
    Unknown(String),
    /// The manifest does not belong to what was signed.
    #[error("its proof does not lead to the release that was signed")]
    Elsewhere,
    /// Statement and manifest contradict each other.
    #[error("it is not of the fleet or the number that was signed")]
    Mixed,
    /// No release has such a number.
    #[error("a release has a number from 1 to {HIGHEST}, and it has {0}")]
    Number(Number),
}

impl Sealed {
    /// Believes it, or says why not. Whether the host takes it is another matter: [`crate::judge`].
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open(&self, trust: &Trust) -> Result<Opened, Unsealed> {
        let (statement, signer) = verify_statement(&self.statement, &self.signature, &trust.signers)?;
        let leaf = tree::leaf(self.manifest.as_bytes());
        if tree::climb(leaf, self.index, statement.hosts, &self.way) != Some(statement.root) {
            return Err(Unsealed::Elsewhere);
        }
        let manifest = manifest_of(&statement, &self.manifest)?;
        Ok(Opened { statement, manifest, leaf, signer })
    }
}

fn not_too_long(text: &str) -> Result<(), Unsealed> {
    if text.len() > LONGEST { Err(Unsealed::TooLong) } else { Ok(()) }
}

/// Reads a manifest that belongs to what was signed.
pub(crate) fn manifest_of(statement: &Statement, text: &str) -> Result<Manifest, Unsealed> {
    not_too_long(text)?;
    let manifest: Manifest =
        serde_json::from_str(text).map_err(|error| Unsealed::Unknown(error.to_string()))?;
    // A host whose trust is another fleet's would take nothing any more.
    let fleets = [&manifest.fleet, &manifest.trust.fleet];
    if fleets.iter().any(|fleet| **fleet != statement.fleet) || manifest.number != statement.number {
        return Err(Unsealed::Mixed);
    }
    Ok(manifest)
}

/// Reads a statement that one of these has signed.
///
/// # Errors
/// [`Unsealed`].
pub(crate) fn verify_statement(
    text: &str,
    signature: &str,
    signers: &[Signer],
) -> Result<(Statement, Signer), Unsealed> {
    not_too_long(text)?;
    let signer = verify(RELEASE_NAMESPACE, text, signature, |key| {
        signers.iter().find(|signer| signer.key == *key).cloned()
    })?;
    Ok((statement_of(text)?, signer))
}

/// Reads a statement.
///
/// # Errors
/// [`Unsealed`].
pub(crate) fn statement_of(text: &str) -> Result<Statement, Unsealed> {
    not_too_long(text)?;
    let statement: Statement =
        serde_json::from_str(text).map_err(|error| Unsealed::Unknown(error.to_string()))?;
    // 0 is that of what is not counted, and beyond the highest no other could follow.
    if !(1..=HIGHEST).contains(&statement.number) {
        return Err(Unsealed::Number(statement.number));
    }
    Ok(statement)
}

/// Whose signature it is, of those whom `known` knows by their keys, where it is a good one over that text, for that
/// purpose.
pub(crate) fn verify<Who>(
    namespace: &str,
    text: &str,
    signature: &str,
    known: impl FnOnce(&Key) -> Option<Who>,
) -> Result<Who, Unsealed> {
    not_too_long(signature)?;
    let unreadable = |error: ssh_key::Error| Unsealed::Signature(error.to_string());
    let signature = SshSig::from_pem(signature).map_err(unreadable)?;
    let public = ssh_key::PublicKey::from(signature.public_key().clone());
    let key = Key::of(&public).map_err(unreadable)?;
    if let Some(kind) = key.unverifiable() {
        return Err(Unsealed::OtherKind { key: key.fingerprint(), kind });
    }
    let who = known(&key).ok_or_else(|| Unsealed::Stranger(key.fingerprint()))?;
    // The namespace is part of what was signed, and compared.
    public.verify(namespace, text.as_bytes(), &signature).map_err(|_| Unsealed::Forged(key.fingerprint()))?;
    Ok(who)
}

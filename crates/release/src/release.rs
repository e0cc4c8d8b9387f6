//! A whole release: how it is put together by who makes it, and taken apart by who publishes it.

use std::collections::BTreeMap;

use bosco_model::HostName;
use serde::{Deserialize, Serialize};

use crate::sealed::{Statement, manifest_of, statement_of, verify_statement};
use crate::{Digest, Manifest, Sealed, Signer, Unsealed, tree};

/// A release that is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What is to be signed, in the namespace [`crate::RELEASE_NAMESPACE`].
    pub statement: String,
    manifests: Vec<String>,
}

/// A release: numbered, immutable, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// A [`Statement`], as text.
    pub statement: String,
    /// Its SSHSIG.
    pub signature: String,
    /// The manifests, as texts, in the order of their hosts' names.
    pub manifests: Vec<String>,
}

impl Draft {
    /// Puts a release together. `statement` needs neither root nor number of hosts.
    ///
    /// # Errors
    /// Where a manifest can't be written.
    pub fn new(mut statement: Statement, mut manifests: Vec<Manifest>) -> Result<Self, serde_json::Error> {
        manifests.sort_by(|a, b| a.host.cmp(&b.host));
        let manifests: Vec<String> = manifests.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        statement.root = tree::root(&leaves(&manifests));
        statement.hosts = manifests.len() as u64;
        Ok(Self { statement: serde_json::to_string(&statement)?, manifests })
    }

    /// The release, with a signature over its statement.
    #[must_use]
    pub fn signed(self, signature: String) -> Release {
        Release { statement: self.statement, signature, manifests: self.manifests }
    }
}

fn leaves(manifests: &[String]) -> Vec<Digest> {
    manifests.iter().map(|text| tree::leaf(text.as_bytes())).collect()
}

impl Release {
    /// What it says, where one of these has signed it and all its manifests belong to it: each host at most once.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open(
        &self,
        signers: &[Signer],
    ) -> Result<(Statement, Signer, BTreeMap<HostName, Manifest>), Unsealed> {
        let (statement, signer) = verify_statement(&self.statement, &self.signature, signers)?;
        let manifests = self.of(&statement)?;
        Ok((statement, signer, manifests))
    }

    /// The same, whoever has signed it, if anybody: for who is asked what would become of it.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn look(&self) -> Result<(Statement, BTreeMap<HostName, Manifest>), Unsealed> {
        let statement = statement_of(&self.statement)?;
        let manifests = self.of(&statement)?;
        Ok((statement, manifests))
    }

    fn of(&self, statement: &Statement) -> Result<BTreeMap<HostName, Manifest>, Unsealed> {
        if tree::root(&leaves(&self.manifests)) != statement.root
            || self.manifests.len() as u64 != statement.hosts
        {
            return Err(Unsealed::Elsewhere);
        }
        let mut manifests = BTreeMap::new();
        for text in &self.manifests {
            // Also that it is no longer than a host reads: else every host would refuse what is published here.
            let manifest = manifest_of(statement, text)?;
            if manifests.insert(manifest.host.clone(), manifest).is_some() {
                return Err(Unsealed::Unknown("a host is in it twice".into()));
            }
        }
        Ok(manifests)
    }

    /// Every manifest with its proof, in the order of the manifests.
    pub fn seal(&self) -> impl Iterator<Item = Sealed> {
        let ways = tree::proofs(&leaves(&self.manifests));
        ways.into_iter().zip(&self.manifests).zip(0..).map(|((way, manifest), index)| Sealed {
            statement: self.statement.clone(),
            signature: self.signature.clone(),
            manifest: manifest.clone(),
            index,
            way,
        })
    }
}

//! Between what the store here knows of paths and what a release says of them.

use bosco_release::{Contents, Digest, PathContents};

use crate::PathInfo;

/// Paths by the digests of their archives.
pub type Infos = Vec<(Digest, PathInfo)>;

/// What is in a closure, as a release says it.
///
/// # Errors
/// In words, where the store has no SHA-256 of a path, or these are not a closure.
pub fn contents(infos: Vec<PathInfo>) -> Result<(Contents, Infos), String> {
    let mut paths = Vec::with_capacity(infos.len());
    let mut hashed = Vec::with_capacity(infos.len());
    for info in infos {
        let hash = info.sha256().map(Digest::from_bytes);
        let hash = hash.ok_or_else(|| format!("the store here has no SHA-256 of {}", info.path))?;
        paths.push(PathContents {
            path: info.path.clone(),
            hash,
            size: info.size,
            references: info.references.iter().cloned().collect(),
            signatures: info.signatures.clone(),
            address: info.address.clone(),
        });
        hashed.push((hash, info));
    }
    Ok((Contents::new(paths).map_err(|error| error.to_string())?, hashed))
}

impl From<&PathContents> for PathInfo {
    fn from(one: &PathContents) -> Self {
        let PathContents { path, hash: digest, size, references, signatures, address } = one.clone();
        Self::told(path, size, digest.as_bytes(), references.into_iter().collect(), signatures, address)
    }
}

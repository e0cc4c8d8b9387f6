//! Where the fleet is declared.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A directory that declares a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where `flake.nix` lies.
    pub dir: PathBuf,
}

/// There is no fleet to be found.
#[derive(Debug, Error)]
#[error("there is no flake.nix in {} or any directory above it", from.display())]
pub struct NoSource {
    from: PathBuf,
}

impl Source {
    /// Looks for a fleet in `from` and then in each directory above it.
    ///
    /// # Errors
    /// [`NoSource`] where none declares one.
    pub fn find(from: &Path) -> Result<Self, NoSource> {
        from.ancestors()
            .find(|dir| dir.join("flake.nix").is_file())
            .map(|dir| Self { dir: dir.to_owned() })
            .ok_or_else(|| NoSource { from: from.to_owned() })
    }
}

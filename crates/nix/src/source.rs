//! Where the fleet is declared.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::tree;

/// What a fleet in a flake is called.
const FLAKE: &str = "flake.nix";
/// What a fleet without flakes is called.
const HIVE: &str = "hive.nix";

/// What declares a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where its files lie, as far as they lie here: where Nix works, and what names of files are relative to. The
    /// operator's working directory where they lie elsewhere.
    pub dir: PathBuf,
    /// The operator's working directory.
    from: PathBuf,
    place: Place,
}

/// How Nix reads a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The flake of a directory.
    Flake,
    /// A flake by any reference, relative to the operator's working directory.
    Reference(String),
    /// A file with a hive in it.
    Hive(PathBuf),
    /// A directory with a directory for each host in it.
    Tree,
}

/// There is no fleet to be found.
#[derive(Debug, Error)]
pub enum NoSource {
    /// No directory declares one.
    #[error("there is no {FLAKE} or {HIVE} in {} or any directory above it, and no {}", from.display(), tree::HINT)]
    Nowhere {
        /// Where the search began.
        from: PathBuf,
    },
    /// A flake reference names a part of the flake.
    #[error("`{reference}` names a part of a flake, and a fleet is a whole one")]
    Part {
        /// The reference as given.
        reference: String,
    },
    /// A flake reference names a directory that is not there, or names one that is there by something else.
    #[error("there is no flake `{reference}`")]
    NoFlake {
        /// The reference as given.
        reference: String,
        /// Whether there is a directory of that name.
        is_directory: bool,
    },
    /// The file with the hive is not there.
    #[error("there is no file {}", file.display())]
    NoHive {
        /// What was looked for.
        file: PathBuf,
    },
}

impl NoSource {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Nowhere { .. } => "change to the directory of the fleet, or say where it is: `--flake REF` for one that \
                                     declares `nixosConfigurations`, `deploy`, `colmenaHive` or `colmena`, `--hive FILE` \
                                     for a hive without flakes; a tree is found from inside of it"
                .into(),
            Self::Part { reference } => {
                let (flake, part) = reference.split_once('#').unwrap_or((reference, ""));
                let host = part.rsplit('.').find(|part| !part.is_empty()).unwrap_or("HOST");
                format!("a host is named by the selector: `--flake {flake} --on {host}`")
            }
            Self::NoFlake { reference, is_directory: true } => {
                format!("the directory is `--flake ./{reference}`; without the dot it is a name in Nix's registry")
            }
            Self::NoFlake { .. } => "is the path right? It is relative to the working directory".into(),
            Self::NoHive { .. } => format!("`--hive` takes a hive's file, or the directory where its {HIVE} is"),
        }
    }
}

impl Source {
    /// Whether its files lie here, in [`dir`](Self::dir).
    #[must_use]
    pub fn is_here(&self) -> bool {
        match &self.place {
            Place::Flake | Place::Hive(_) | Place::Tree => true,
            Place::Reference(reference) => local(reference).is_some(),
        }
    }

    /// Looks for a fleet in `from` and then in each directory above it; in each a flake wins over a hive, and that over a tree.
    ///
    /// # Errors
    /// [`NoSource::Nowhere`] where none declares one.
    pub fn find(from: &Path) -> Result<Self, NoSource> {
        let place = |dir: &Path| {
            let hive = dir.join(HIVE);
            if dir.join(FLAKE).is_file() {
                Some(Place::Flake)
            } else if hive.is_file() {
                Some(Place::Hive(hive))
            } else {
                (!tree::hosts(dir).is_empty()).then_some(Place::Tree)
            }
        };
        // A flake that is one host of a tree is no fleet of its own.
        let of_tree = |dir: &Path| {
            let above = dir.parent().filter(|hosts| hosts.ends_with(tree::HOSTS)).and_then(Path::parent);
            above.is_some_and(|above| place(above) == Some(Place::Tree))
        };
        let here = |dir: &Path| {
            let place = place(dir).filter(|_| !of_tree(dir))?;
            let dir = if place == Place::Tree { dir.canonicalize().ok()? } else { dir.to_owned() };
            Some(Self { dir, from: from.to_owned(), place })
        };
        from.ancestors().find_map(here).ok_or_else(|| NoSource::Nowhere { from: from.to_owned() })
    }

    /// The flake of any reference that Nix knows; a relative one is relative to `from`.
    ///
    /// # Errors
    /// [`NoSource::Part`] where it names a part of a flake.
    pub fn flake(reference: &str, from: &Path) -> Result<Self, NoSource> {
        if reference.contains('#') {
            return Err(NoSource::Part { reference: reference.to_owned() });
        }
        let dir = local(reference).map(|path| from.join(path));
        let is_missing = dir.as_ref().is_some_and(|dir| !dir.exists());
        let is_directory = dir.is_none() && from.join(reference).join(FLAKE).is_file();
        if is_missing || is_directory {
            return Err(NoSource::NoFlake { reference: reference.to_owned(), is_directory });
        }
        let dir = dir.filter(|dir| dir.is_dir());
        Ok(Self {
            dir: dir.map_or_else(|| from.to_owned(), |dir| dir.canonicalize().unwrap_or(dir)),
            from: from.to_owned(),
            place: Place::Reference(reference.to_owned()),
        })
    }

    /// The hive in a file, or in a directory's `hive.nix`; a relative path is relative to `from`.
    ///
    /// # Errors
    /// [`NoSource::NoHive`] where it is not there.
    pub fn hive(path: &Path, from: &Path) -> Result<Self, NoSource> {
        let path = from.join(path);
        let file = if path.is_dir() { path.join(HIVE) } else { path };
        let Ok(file) = file.canonicalize() else { return Err(NoSource::NoHive { file }) };
        let dir = file.parent().unwrap_or(from).to_owned();
        Ok(Self { dir, from: from.to_owned(), place: Place::Hive(file) })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Where Nix is to work for a reference, or a file, to mean what the operator means.
    pub(crate) fn working_directory(&self) -> &Path {
        match self.place {
            Place::Flake | Place::Hive(_) | Place::Tree => &self.dir,
            Place::Reference(_) => &self.from,
        }
    }

    /// Where files lie that Nix copies to its store before it reads them, if they lie here.
    pub(crate) fn copied(&self) -> Option<&Path> {
        match &self.place {
            Place::Flake => Some(&self.dir),
            Place::Reference(reference) => local(reference).map(|_| self.dir.as_path()),
            Place::Hive(_) | Place::Tree => None,
        }
    }

    /// Whether Nix sees of its files only those that git knows, where there is git.
    #[must_use]
    pub fn is_what_git_knows(&self) -> bool {
        self.copied().is_some()
    }

    /// A hive that lies beside a flake, by the name that the operator would call it.
    pub(crate) fn hive_beside(&self) -> Option<PathBuf> {
        let hive = self.copied()?.join(HIVE);
        hive.is_file().then(|| hive.strip_prefix(&self.from).map_or(hive.clone(), Path::to_owned))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Flake | Place::Tree => self.dir.display().fmt(f),
            Place::Reference(reference) => f.write_str(reference),
            Place::Hive(file) => file.display().fmt(f),
        }
    }
}

/// The directory that a flake reference names, where it names one (Nix's manual, `nix flake`, "Flake references"): a
/// path begins with a dot or a slash, or stands behind `path:` or the `file` transport of a version control system.
fn local(reference: &str) -> Option<&str> {
    let path = match reference.split_once(':') {
        Some(("path" | "git+file" | "hg+file", path)) => path.strip_prefix("//").unwrap_or(path),
        _ if reference.starts_with(['.', '/']) => reference,
        _ => return None,
    };
    path.split('?').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_to_files_here_is_told_from_others() {
        let here = ["./x", "/x", "../x?dir=y", "path:/x", "git+file:///x?ref=main", "."];
        let paths = ["./x", "/x", "../x", "/x", "/x", "."];
        assert_eq!(here.map(|reference| local(reference).unwrap_or("none")), paths);
        for elsewhere in ["nixpkgs", "github:a/b", "git+ssh://host/x", "git+https://host/x", "x/y"] {
            assert_eq!(local(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_tree_is_found_from_inside_and_its_hosts_are_no_fleets() {
        let dir = std::env::temp_dir().join(format!("bosco-source-{}", std::process::id()));
        for host in ["hosts/web", "hosts/db"] {
            std::fs::create_dir_all(dir.join(host)).unwrap();
        }
        let found = |from: &str| Source::find(&dir.join(from)).map(|source| (source.dir, source.place));
        assert!(found("hosts").is_err(), "nothing says yet what a host is");
        std::fs::write(dir.join("hosts/web/flake.nix"), "").unwrap();
        for from in ["", "hosts", "hosts/web", "hosts/db"] {
            assert_eq!(found(from).unwrap(), (dir.clone(), Place::Tree), "from `{from}`");
        }
        std::fs::write(dir.join("flake.nix"), "").unwrap();
        assert_eq!(found("").unwrap().1, Place::Flake);
        assert_eq!(
            found("hosts/web").unwrap().0,
            dir.join("hosts/web"),
            "of a flake nobody hands over directories"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_part_of_a_flake_is_refused_with_the_host_that_it_may_mean() {
        let hint = Source::flake("./x#nixosConfigurations.web", Path::new("/")).unwrap_err().hint();
        assert!(hint.contains("`--flake ./x --on web`"), "{hint}");
    }
}

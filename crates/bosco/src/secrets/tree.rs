//! The fleet's files, as far as git knows them or would take them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use bosco_model::HostName;

use crate::error::{Error, Exit};
use crate::git::git;

/// The most files that are looked at.
const MAX_FILES: usize = 100_000;
/// The deepest that is looked where there is no git.
const MAX_DEPTH: usize = 20;

/// The files of a fleet.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Where they lie: the root of the repository.
    pub(crate) root: PathBuf,
    /// Their paths from there.
    pub(crate) files: BTreeSet<String>,
    /// Those of them that git would take and does not have yet.
    pub(crate) unknown: BTreeSet<String>,
}

impl Tree {
    /// The files of the repository that a directory is in; without git, those below the directory.
    pub(crate) async fn of(dir: &Path) -> Result<Self, Error> {
        let Some(root) = git(dir, &["rev-parse", "--show-toplevel"]).await else {
            let mut files = BTreeSet::new();
            walk(dir, dir, 0, &mut files);
            return Self { root: dir.to_owned(), files, unknown: BTreeSet::new() }.capped();
        };
        let root = PathBuf::from(root.trim_end_matches('\n'));
        let cannot = || Error::new(Exit::Unable, format!("git can't list the files in {}", root.display()));
        let known = git(&root, &["ls-files", "-z", "--cached"]).await.ok_or_else(cannot)?;
        let unknown = git(&root, &["ls-files", "-z", "--others", "--exclude-standard"]).await;
        let unknown = unknown.ok_or_else(cannot)?;
        let is_file = |file: &&str| {
            !file.is_empty() && root.join(file).symlink_metadata().is_ok_and(|found| found.is_file())
        };
        let listed = |text: &str| -> BTreeSet<String> {
            text.split('\0').filter(is_file).map(str::to_owned).collect()
        };
        let unknown = listed(&unknown);
        let files = listed(&known).union(&unknown).cloned().collect();
        Self { root, files, unknown }.capped()
    }

    fn capped(self) -> Result<Self, Error> {
        if self.files.len() > MAX_FILES {
            let message = format!("{} has more than {MAX_FILES} files", self.root.display());
            return Err(Error::new(Exit::Usage, message).hint("is it the fleet's repository?"));
        }
        Ok(self)
    }

    /// What is in a file; `None` where it has more than so many bytes, or can't be read.
    pub(crate) fn read(&self, file: &str, most: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(most).ok()?;
        let opened = std::fs::File::open(self.root.join(file)).ok()?;
        opened.take(most + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= most).then_some(bytes)
    }

    /// The same, of text.
    pub(crate) fn text(&self, file: &str, most: usize) -> Option<String> {
        String::from_utf8(self.read(file, most)?).ok()
    }

    /// A path of Nix's from the root: one in a store, wherever that lies, is that of a copy of the whole repository.
    pub(crate) fn place(&self, path: &str) -> Result<String, String> {
        let here = || Path::new(path).strip_prefix(&self.root).ok().and_then(Path::to_str);
        let below = here().or_else(|| in_source(path));
        below.filter(|below| !below.is_empty()).map(str::to_owned).ok_or_else(|| path.to_owned())
    }

    /// The same, of a host: its directory of a tree is copied by itself, with what its links point to.
    pub(crate) fn place_of(&self, source: &Path, host: &HostName, path: &str) -> Result<String, String> {
        let below = self.place(path)?;
        if self.files.contains(&below) {
            return Ok(below);
        }
        let linked = source.join("hosts").join(host.as_str()).join(&below).canonicalize().ok();
        let root = self.root.canonicalize().ok();
        let linked = linked
            .zip(root)
            .and_then(|(file, root)| file.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned));
        Ok(linked.filter(|file| self.files.contains(file)).unwrap_or(below))
    }

    /// The file of that name that is nearest to a file: in its directory, or above.
    pub(crate) fn nearest(&self, file: &str, name: &str) -> Option<String> {
        let dirs = Path::new(file).ancestors().skip(1);
        dirs.filter_map(|dir| dir.join(name).to_str().map(str::to_owned)).find(|one| self.files.contains(one))
    }
}

/// Where a file is in the source whose copy in the store it is of. The store itself may be below a folder.
pub(crate) fn in_source(path: &str) -> Option<&str> {
    let (_, below) = path.split_once("/nix/store/")?;
    below.split_once('/').map(|(_, file)| file)
}

fn walk(root: &Path, dir: &Path, depth: usize, files: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            _ if files.len() > MAX_FILES || entry.file_name() == ".git" => {}
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => walk(root, &path, depth + 1, files),
            Ok(kind) if kind.is_file() => {
                files.extend(path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_nix_is_found_among_the_files() {
        let files = ["secrets/a.yaml", ".sops.yaml", "secrets/.sops.yaml"].map(str::to_owned).into();
        let tree = Tree { root: "/fleet".into(), files, unknown: BTreeSet::new() };
        let store = format!("/nix/store/{}-source", "0".repeat(32));
        assert_eq!(tree.place(&format!("{store}/secrets/a.yaml")).unwrap(), "secrets/a.yaml");
        assert_eq!(tree.place(&format!("/chroot{store}/secrets/a.yaml")).unwrap(), "secrets/a.yaml");
        assert_eq!(tree.place("/fleet/secrets/a.yaml").unwrap(), "secrets/a.yaml");
        for elsewhere in [store.as_str(), "/etc/a.yaml", "/fleet/", "/fleets/a"] {
            assert_eq!(tree.place(elsewhere).unwrap_err(), elsewhere);
        }
        assert_eq!(tree.nearest("secrets/a.yaml", ".sops.yaml").unwrap(), "secrets/.sops.yaml");
        assert_eq!(tree.nearest("other/a.yaml", ".sops.yaml").unwrap(), ".sops.yaml");
        assert_eq!(tree.nearest("a.yaml", "none"), None);
    }
}

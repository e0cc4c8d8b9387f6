//! A host's directory of a tree (`hosts/NAME`), as the host gets it: links are followed and what they lead to is copied, so
//! that it stands by itself. What becomes what is decided by [`resolve`] from what [`Files`] says; only [`Disk`] and
//! [`copy`] touch the disk. Nothing may come from outside of the tree's root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Where the hosts' directories are, below the tree's root.
pub(crate) const HOSTS: &str = "hosts";
/// What a tree is known by.
pub(crate) const HINT: &str = "hosts/NAME with a configuration.nix or flake.nix";
/// What a host's directory has one of.
const CONFIGURATION: &str = "configuration.nix";
const FLAKE: &str = "flake.nix";
/// The file by which a host may update the inputs of its flake by itself.
const SELF_UPDATE: &str = "SELF_UPDATE";
/// The file by which it may reboot where only that brings a change in.
const REBOOT: &str = "REBOOT";
/// The most files and folders that one may have.
const MOST: usize = 20_000;
/// How much all its files may have, in bytes.
const LARGEST: u64 = 256 * 1024 * 1024;
/// How deep it may go.
const DEEPEST: usize = 40;
/// How many links may lead to one place.
const HOPS: u32 = 40;

/// What is at a path, by its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Folder,
    File {
        size: u64,
        executable: bool,
    },
    Link(PathBuf),
    /// A pipe, a device, a socket.
    Other,
}

/// Where a tree is read from. Paths are relative to its root.
pub(crate) trait Files {
    fn look(&self, path: &Path) -> io::Result<Entry>;
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// What a host's directory becomes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// What is in it, each folder before what is in that: the path there, and what it is.
    pub(crate) entries: Vec<(PathBuf, What)>,
    size: u64,
}

/// What an entry becomes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    Folder,
    File {
        /// Where it is, from the tree's root.
        from: PathBuf,
        executable: bool,
    },
}

/// Why a host's directory can't be handed over.
#[derive(Debug, Error)]
pub(crate) enum Unresolved {
    #[error("{} leads out of the tree, and the host has nothing of that", .0.display())]
    Outside(PathBuf),
    #[error("{} leads back to where it is in", .0.display())]
    Loop(PathBuf),
    #[error("{} leads to nothing", .0.display())]
    Nothing(PathBuf),
    #[error("{} is neither a file nor a folder", .0.display())]
    Kind(PathBuf),
    #[error("{} has a name that is not UTF-8", .0.display())]
    Name(PathBuf),
    #[error("{} is more than {DEEPEST} folders deep", .0.display())]
    Deep(PathBuf),
    #[error("it has more than {MOST} files and folders")]
    Many,
    #[error("its files have more than {} MiB", LARGEST / (1024 * 1024))]
    Large,
    #[error("{} can't be read: {why}", path.display())]
    Disk { path: PathBuf, why: io::Error },
}

impl Unresolved {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Outside(_) => {
                "move what it leads to into the tree, or remove the link (as `nix build` leaves `result`)"
            }
            Self::Loop(_) | Self::Nothing(_) => "mend or remove the link",
            Self::Kind(_) | Self::Name(_) => "remove or rename it",
            Self::Many | Self::Large | Self::Deep(_) => {
                "all of the directory is handed over to the host: keep what it is not built from elsewhere"
            }
            Self::Disk { .. } => "may you read it?",
        }
    }
}

impl Resolved {
    /// Whether the host may update the inputs of its flake by itself.
    pub(crate) fn self_update(&self) -> bool {
        self.has(SELF_UPDATE) && self.has(FLAKE)
    }

    /// Whether it may reboot.
    pub(crate) fn reboot(&self) -> bool {
        self.has(REBOOT)
    }

    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(path, what)| path == Path::new(name) && matches!(what, What::File { .. }))
    }
}

/// What the directory of a host becomes.
pub(crate) fn resolve(files: &dyn Files, root: &Path, host: &str) -> Result<Resolved, Unresolved> {
    folder(files, root, Path::new(HOSTS), host)
}

/// The same of any folder, which lies in one without links on the way.
pub(crate) fn folder(
    files: &dyn Files,
    root: &Path,
    within: &Path,
    name: &str,
) -> Result<Resolved, Unresolved> {
    let mut resolved = Resolved::default();
    let (place, entry) = follow(files, root, within, OsStr::new(name))?;
    if entry != Entry::Folder {
        return Err(Unresolved::Kind(within.join(name)));
    }
    walk(files, root, &mut vec![place], Path::new(""), &mut resolved)?;
    Ok(resolved)
}

/// Takes in what is in the last of these folders, of which each is in the one before.
fn walk(
    files: &dyn Files,
    root: &Path,
    within: &mut Vec<PathBuf>,
    becomes: &Path,
    resolved: &mut Resolved,
) -> Result<(), Unresolved> {
    let Some(folder) = within.last().cloned() else { return Ok(()) };
    if within.len() > DEEPEST {
        return Err(Unresolved::Deep(folder));
    }
    let mut names = files.list(&folder).map_err(|why| Unresolved::Disk { path: folder.clone(), why })?;
    names.sort();
    for name in names {
        let (named, becomes) = (folder.join(&name), becomes.join(&name));
        if name.to_str().is_none() {
            return Err(Unresolved::Name(named));
        }
        let (place, entry) = follow(files, root, &folder, &name)?;
        if resolved.entries.len() == MOST {
            return Err(Unresolved::Many);
        }
        match entry {
            Entry::File { size, executable } => {
                resolved.size = resolved.size.saturating_add(size);
                if resolved.size > LARGEST {
                    return Err(Unresolved::Large);
                }
                resolved.entries.push((becomes, What::File { from: place, executable }));
            }
            Entry::Folder if within.contains(&place) => {
                return Err(Unresolved::Loop(within[0].join(becomes)));
            }
            Entry::Folder => {
                resolved.entries.push((becomes.clone(), What::Folder));
                within.push(place);
                walk(files, root, within, &becomes, resolved)?;
                within.pop();
            }
            Entry::Link(_) | Entry::Other => return Err(Unresolved::Kind(named)),
        }
    }
    Ok(())
}

/// Where a name in a folder leads, and what is there: no link. The folder is one by itself, without links on the way.
fn follow(
    files: &dyn Files,
    root: &Path,
    folder: &Path,
    name: &OsStr,
) -> Result<(PathBuf, Entry), Unresolved> {
    let named = folder.join(name);
    let mut at = folder.to_owned();
    let mut entry = Entry::Folder;
    let mut hops = 0;
    let mut left: VecDeque<OsString> = [name.to_owned()].into();
    while let Some(part) = left.pop_front() {
        if entry != Entry::Folder {
            return Err(Unresolved::Nothing(named));
        }
        if part == ".." {
            if !at.pop() {
                return Err(Unresolved::Outside(named));
            }
            continue;
        }
        let here = at.join(&part);
        match files.look(&here) {
            Ok(Entry::Link(target)) => {
                hops += 1;
                if hops > HOPS {
                    return Err(Unresolved::Loop(named));
                }
                let target = if target.is_absolute() {
                    at = PathBuf::new();
                    match target.strip_prefix(root) {
                        Ok(within) => within.to_owned(),
                        Err(_) => return Err(Unresolved::Outside(named)),
                    }
                } else {
                    target
                };
                for part in target.components().rev() {
                    match part {
                        Component::Normal(part) => left.push_front(part.to_owned()),
                        Component::ParentDir => left.push_front("..".into()),
                        Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                    }
                }
            }
            Ok(found) => (at, entry) = (here, found),
            Err(error) if error.kind() == io::ErrorKind::NotFound && hops > 0 => {
                return Err(Unresolved::Nothing(named));
            }
            Err(why) => return Err(Unresolved::Disk { path: here, why }),
        }
    }
    Ok((at, entry))
}

/// A tree on the disk, by its root.
pub(crate) struct Disk<'a>(pub(crate) &'a Path);

impl Files for Disk<'_> {
    fn look(&self, path: &Path) -> io::Result<Entry> {
        let path = self.0.join(path);
        let found = path.symlink_metadata()?;
        Ok(if found.is_dir() {
            Entry::Folder
        } else if found.is_file() {
            Entry::File { size: found.len(), executable: found.permissions().mode() & 0o100 != 0 }
        } else if found.is_symlink() {
            Entry::Link(path.read_link()?)
        } else {
            Entry::Other
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        // Of one that has more, the next one says that it is too many.
        let entries = std::fs::read_dir(self.0.join(path))?.take(MOST + 1);
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}

/// Copies what a host's directory becomes to a folder that is not there yet.
pub(crate) fn copy(root: &Path, resolved: &Resolved, to: &Path) -> Result<(), Unresolved> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why| Unresolved::Disk { path, why }
    };
    std::fs::create_dir_all(to).map_err(failed(to))?;
    for (path, what) in &resolved.entries {
        let to = to.join(path);
        match what {
            What::Folder => std::fs::create_dir(&to).map_err(failed(&to))?,
            What::File { from, executable } => {
                let from = root.join(from);
                std::fs::copy(&from, &to).map_err(failed(&from))?;
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).map_err(failed(&to))?;
            }
        }
    }
    Ok(())
}

/// The names of the directories of a tree's hosts, in their order; none where it is no tree.
pub(crate) fn hosts(root: &Path) -> Vec<OsString> {
    let Ok(entries) = std::fs::read_dir(root.join(HOSTS)) else { return Vec::new() };
    let hosts = entries.flatten().filter(|entry| is_host(&entry.path()));
    let mut names: Vec<OsString> = hosts.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

fn is_host(dir: &Path) -> bool {
    [CONFIGURATION, FLAKE].iter().any(|file| dir.join(file).is_file())
}

#[cfg(test)]
mod tests;

//! The way to a folder, walked so that nobody but root can lead it elsewhere: root writes where others may have folders too.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, readlinkat, statat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// How many links may be on one way, as for the kernel.
const MOST_LINKS: usize = 40;
/// What a folder on the way is opened for: to go on from there.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that was reached by folders, and by links of root's only. It stays the same one, whatever is renamed meanwhile.
#[derive(Debug)]
pub(crate) struct Way(OwnedFd);

impl Way {
    /// Goes to a folder. Those that are not there are made with the mode that is given, or else it is an error.
    ///
    /// # Errors
    /// As the system says; and where somebody else than root has made a link on the way, or could have.
    pub(crate) fn to(folder: &Path, make: Option<u32>) -> io::Result<Self> {
        let mut at = vec![open("/", FOLDER, Mode::empty())?];
        let mut left = names(folder);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                at.truncate(at.len().saturating_sub(1).max(1));
                continue;
            }
            let here = at.last().ok_or(Errno::NOENT)?;
            let stat = look(here, &name, make)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                at.push(openat(here, &name, FOLDER, Mode::empty())?);
                continue;
            }
            if !is_roots_alone(&fstat(here)?) {
                let why = format!("`{}` is a link, in a folder that others can write to", name.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = OsString::from_vec(readlinkat(here, &name, Vec::new())?.into_bytes());
            if Path::new(&target).is_absolute() {
                at.truncate(1);
            }
            left.extend(names(Path::new(&target)));
        }
        at.pop().map(Self).ok_or_else(|| Errno::NOENT.into())
    }

    /// The way to the folder that a file lies in, and where the file is for this process.
    ///
    /// # Errors
    /// As for [`Way::to`].
    pub(crate) fn to_file(path: &Path, make: Option<u32>) -> io::Result<(Self, PathBuf)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        let way = Self::to(folder, make)?;
        let at = way.at(name);
        Ok((way, at))
    }

    /// Where a name of the folder is, for this process and as long as the way is there.
    pub(crate) fn at(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// What is at a name, which is made where it is not there.
fn look(here: &OwnedFd, name: &OsStr, make: Option<u32>) -> io::Result<Stat> {
    let look = || statat(here, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
    match (look(), make) {
        (Err(Errno::NOENT), Some(mode)) => {
            match mkdirat(here, name.as_bytes(), Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(look()?)
        }
        (stat, _) => Ok(stat?),
    }
}

/// Whether nobody but root, or who runs, can make or move anything in a folder.
fn is_roots_alone(folder: &Stat) -> bool {
    let user = [0, geteuid().as_raw()].contains(&folder.st_uid);
    let group = [0, getegid().as_raw()].contains(&folder.st_gid);
    user && folder.st_mode & 0o002 == 0 && (group || folder.st_mode & 0o020 == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn a_way_leads_through_folders_and_roots_own_links_and_makes_what_is_missing() {
        let dir = TempDir::new();
        let folder = |path: &str| dir.path().join(path);
        dir.write("data/x", "x");
        fs::create_dir(folder("links")).unwrap();
        symlink("../data", folder("links/near")).unwrap();
        symlink(folder("data"), folder("links/far")).unwrap();
        for link in ["links/near", "links/far", "data"] {
            let way = Way::to(&folder(link), None).unwrap();
            assert_eq!(fs::read(way.at("x".as_ref())).unwrap(), b"x", "{link}");
        }
        assert!(Way::to(&folder("data/new/one"), None).is_err());
        let (_way, at) = Way::to_file(&folder("data/new/one/file"), Some(0o751)).unwrap();
        fs::write(at, "y").unwrap();
        assert_eq!(fs::read(folder("data/new/one/file")).unwrap(), b"y");
        symlink("around", folder("links/around")).unwrap();
        assert!(Way::to(&folder("links/around"), None).is_err(), "it leads nowhere");
        assert!(Way::to(&folder("data/x"), None).is_err(), "it is no folder");
    }

    #[test]
    fn a_link_in_a_folder_that_others_can_write_to_is_not_followed() {
        let dir = TempDir::new();
        let shared = dir.path().join("shared");
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::create_dir(&shared).unwrap();
        symlink(dir.path().join("target"), shared.join("keys")).unwrap();
        Way::to(&shared.join("keys"), None).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = Way::to(&shared.join("keys"), Some(0o751)).unwrap_err();
        assert!(error.to_string().contains("`keys` is a link"), "{error}");
        if geteuid().is_root() {
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&shared, Some(1000), None).unwrap();
            assert!(Way::to(&shared.join("keys"), None).is_err(), "its owner can");
        }
    }
}

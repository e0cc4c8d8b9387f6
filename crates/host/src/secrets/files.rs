//! Files that are in memory only, and whose owner and mode are right before anything is in them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use bosco_secrets::Secret;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown};
use rustix::mount::{MountFlags, mount};

use super::way::Way;
use crate::places::Places;

/// What the kernel calls a file system that never leaves memory, not even for swap.
const RAMFS: i64 = 0x8584_58f6;

/// Whose a file is, and who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub user: Uid,
    pub group: Gid,
    pub mode: u32,
}

impl Owner {
    /// Root's.
    pub(crate) fn root(mode: u32) -> Self {
        Self { user: Uid::ROOT, group: Gid::ROOT, mode }
    }
}

/// Makes a folder whose files are in memory only, if it is none yet. Others may go through it, and not look around.
///
/// # Errors
/// In words.
pub(crate) fn in_memory(places: &Places, folder: &Path) -> Result<(), String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!("no file system in memory can be had at {}: {error}", folder.display())
    };
    DirBuilder::new().recursive(true).mode(0o751).create(folder).map_err(|error| wrong(&error))?;
    if !places.is_machine() {
        return Ok(());
    }
    let is = rustix::fs::statfs(folder).map_err(|error| wrong(&error))?;
    #[allow(clippy::unnecessary_cast)] // Its type is the machine's.
    if is.f_type as i64 == RAMFS {
        return Ok(());
    }
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("ramfs", folder, "ramfs", flags, c"mode=0751").map_err(|error| wrong(&error))
}

/// Whether a folder is a file system of its own.
pub(crate) fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    folder.parent().is_some_and(|parent| device(folder).is_some() && device(folder) != device(parent))
}

/// Makes the folders that a file lies in, for others to go through.
///
/// # Errors
/// As the system says.
pub(crate) fn make_way(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o751).create(folder)
}

/// Makes a folder that is root's alone.
///
/// # Errors
/// As the system says.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a new file.
///
/// # Errors
/// As the system says; also where there is one already.
pub(crate) fn write_new(path: &Path, bytes: &[u8], owner: Owner) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    fchown(&file, Some(owner.user), Some(owner.group))?;
    fchmod(&file, Mode::from_raw_mode(owner.mode))?;
    file.write_all(bytes)
}

/// Puts a file in its place, whole, if it is not there already as it should be. Says whether there was none.
///
/// # Errors
/// In words, with its name; also where others could lead it elsewhere.
pub(crate) fn put(path: &Path, bytes: &[u8], owner: Owner) -> Result<bool, String> {
    let put = || -> io::Result<bool> {
        let (way, at) = Way::to_file(path, Some(0o751))?;
        if is_there(&at, bytes, owner) {
            return Ok(false);
        }
        let is_new = fs::symlink_metadata(&at).is_err();
        let making = way.at(&beside(path));
        let _ = fs::remove_file(&making);
        let written = write_new(&making, bytes, owner).and_then(|()| fs::rename(&making, &at));
        if written.is_err() {
            let _ = fs::remove_file(&making);
        }
        written.map(|()| is_new)
    };
    put().map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// Makes a link, whatever was there but a folder. It is not to outlast a boot.
///
/// # Errors
/// In words, with its name; also where others could lead it elsewhere.
pub(crate) fn link(target: &Path, path: &Path) -> Result<(), String> {
    let make = || -> io::Result<()> {
        let (way, at) = Way::to_file(path, Some(0o755))?;
        if fs::read_link(&at).is_ok_and(|to| to == target) {
            return Ok(());
        }
        let making = way.at(&beside(path));
        let _ = fs::remove_file(&making);
        symlink(target, &making)?;
        fs::rename(&making, &at)
    };
    make().map_err(|error| format!("can't make the link {}: {error}", path.display()))
}

/// Takes a file away, and half a one that was to become it, where nobody else leads there.
pub(crate) fn remove(path: &Path) {
    if let Ok((way, at)) = Way::to_file(path, None) {
        let _ = fs::remove_file(way.at(&beside(path)));
        let _ = fs::remove_file(at);
    }
}

/// Takes a link away, if it still leads there.
pub(crate) fn remove_link(target: &Path, path: &Path) {
    if let Ok((_way, at)) = Way::to_file(path, None)
        && fs::read_link(&at).is_ok_and(|to| to == target)
    {
        let _ = fs::remove_file(at);
    }
}

fn is_there(path: &Path, bytes: &[u8], owner: Owner) -> bool {
    let Ok(is) = fs::symlink_metadata(path) else { return false };
    is.is_file()
        && is.uid() == owner.user.as_raw()
        && is.gid() == owner.group.as_raw()
        && is.permissions().mode() & 0o7777 == owner.mode
        && holds(path, bytes)
}

/// Whether a file has exactly these bytes. Nothing else than a file is waited for.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    #[allow(clippy::cast_possible_wrap)] // They are bits.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let Ok(file) = File::options().read(true).custom_flags(flags).open(path) else { return false };
    let mut there = Vec::with_capacity(bytes.len() + 1);
    let read = file.take(bytes.len() as u64 + 1).read_to_end(&mut there);
    read.is_ok() && Secret::new(there).expose() == bytes
}

fn beside(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.bosco").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    fn mine(mode: u32) -> Owner {
        Owner { user: rustix::process::getuid(), group: rustix::process::getgid(), mode }
    }

    #[test]
    fn a_file_is_put_whole_with_its_mode_and_left_where_it_is_right() {
        let dir = TempDir::new();
        let path = dir.path().join("keys/token");
        assert!(put(&path, b"one", mine(0o440)).unwrap(), "it is new");
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o440);
        assert!(!put(&path, b"one", mine(0o440)).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino(), "it was left");
        assert!(!put(&path, b"two", mine(0o440)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
        assert!(holds(&path, b"two") && !holds(&path, b"tw") && !holds(&path, b"two!"));
    }

    #[test]
    fn a_link_takes_the_place_of_whatever_file_was_there() {
        let dir = TempDir::new();
        dir.write("etc/token", "old");
        let path = dir.path().join("etc/token");
        link(Path::new("/run/secrets/token"), &path).unwrap();
        link(Path::new("/run/secrets/token"), &path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/run/secrets/token"));
    }

    #[test]
    fn nobody_who_owns_a_folder_has_root_write_or_remove_elsewhere() {
        let dir = TempDir::new();
        dir.write("etc/passwd", "root");
        dir.write("etc/token", "of somebody else's");
        fs::create_dir_all(dir.path().join("home/ada")).unwrap();
        symlink(dir.path().join("etc"), dir.path().join("home/ada/keys")).unwrap();
        let token = dir.path().join("home/ada/keys/token");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path().join("home/ada"), open).unwrap();
        assert!(put(&token, b"secret", mine(0o400)).unwrap_err().contains("is a link"));
        assert!(link(Path::new("/run/secrets/token"), &token).unwrap_err().contains("is a link"));
        remove(&token);
        remove_link(Path::new("/run/secrets/token"), &token);
        assert_eq!(fs::read(dir.path().join("etc/token")).unwrap(), b"of somebody else's");
        // What lies where the new file is made is replaced, and not written through.
        let own = dir.path().join("home/ada/own");
        symlink(dir.path().join("etc/passwd"), dir.path().join("home/ada/.own.bosco")).unwrap();
        put(&own, b"secret", mine(0o400)).unwrap();
        assert_eq!(fs::read(dir.path().join("etc/passwd")).unwrap(), b"root");
        assert_eq!(fs::read(&own).unwrap(), b"secret");
        dir.write("home/ada/.own.bosco", "sec");
        remove(&own);
        assert_eq!(fs::read_dir(dir.path().join("home/ada")).unwrap().count(), 1, "nothing but the link");
    }
}

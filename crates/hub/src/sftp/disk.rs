//! The hub's disk below a folder, and nothing beside it: every name is looked up by the kernel from a folder's descriptor,
//! which goes through no link, no mount and not upwards, whatever is renamed meanwhile. Thin: what may be done is decided
//! elsewhere.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use russh_sftp::protocol::FileAttributes;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, mkdirat, openat, openat2,
    renameat, statat, unlinkat,
};
use rustix::io::{Errno, Result};

use super::account::{FileId, Usage};
use super::path::{Area, MAX_DEPTH, Name};

/// How the beginning of a hidden name in `logs` shows that it is half a log. No host can name it.
const HALF: &str = ".half-";

/// A folder that is open.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// A regular file that is open, and what it was when it was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) stat: Stat,
}

/// What is at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A link, a pipe, a device: nothing for a host.
    Other,
}

/// What is at a name, by its own kind, not where it leads.
pub(crate) fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    }
}

/// Which file it is.
pub(crate) fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// Its size; the kernel knows none below zero.
pub(crate) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// What a host is told of a file or folder. Whose it is on the hub is not its business.
pub(crate) fn attributes(stat: &Stat) -> FileAttributes {
    let time = |seconds: i64| Some(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX));
    FileAttributes {
        size: Some(size(stat)),
        permissions: Some(stat.st_mode),
        atime: time(stat.st_atime),
        mtime: time(stat.st_mtime),
        ..FileAttributes::default()
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Folder {
    /// A host's folder on the hub, by a path that the hub itself has made.
    pub(crate) fn world(path: &Path) -> Result<Self> {
        openat(CWD, path, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map(Self)
    }

    /// The folder of an area in a host's folder. It may be a disk of its own.
    pub(crate) fn area(&self, area: Area) -> Result<Self> {
        openat2(&self.0, area.name(), FOLDER, Mode::empty(), INSIDE).map(Self)
    }

    /// Makes the folders of the areas that are not there yet.
    pub(crate) fn make_areas(&self) -> Result<()> {
        for area in Area::ALL {
            match mkdirat(&self.0, area.name(), Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
        openat2(&self.0, path, flags, mode, INSIDE | ResolveFlags::NO_XDEV)
    }

    /// The folder at these names.
    pub(crate) fn folder(&self, names: &[Name]) -> Result<Self> {
        self.open(&joined(names), FOLDER, Mode::empty()).map(Self)
    }

    /// The folder that the last of the names is in, and that name.
    pub(crate) fn parent<'n>(&self, names: &'n [Name]) -> Result<(Self, &'n str)> {
        let (last, before) = names.split_last().ok_or(Errno::INVAL)?;
        Ok((self.folder(before)?, last.as_str()))
    }

    /// What is at these names.
    pub(crate) fn stat(&self, names: &[Name]) -> Result<Stat> {
        if names.is_empty() {
            return fstat(&self.0);
        }
        let (parent, name) = self.parent(names)?;
        parent.stat_entry(name)
    }

    /// What is at a name in this folder.
    pub(crate) fn stat_entry<P: rustix::path::Arg>(&self, name: P) -> Result<Stat> {
        statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Opens a file that is there. It never waits, not for a pipe's other end either.
    pub(crate) fn existing(&self, names: &[Name], access: OFlags) -> Result<Opened> {
        let file = self.open(&joined(names), access, Mode::empty())?;
        let stat = fstat(&file)?;
        match kind(&stat) {
            Kind::File => Ok(Opened { file, stat }),
            Kind::Folder => Err(Errno::ISDIR),
            Kind::Other => Err(Errno::LOOP),
        }
    }

    /// Makes a file that is not there yet, and opens it.
    pub(crate) fn create(&self, names: &[Name], access: OFlags, mode: u32) -> Result<Opened> {
        self.create_at(&joined(names), access, mode)
    }

    fn create_at(&self, path: &str, access: OFlags, mode: u32) -> Result<Opened> {
        let flags = access | OFlags::CREATE | OFlags::EXCL;
        let file = self.open(path, flags, Mode::from_raw_mode(mode))?;
        let stat = fstat(&file)?;
        Ok(Opened { file, stat })
    }

    /// Makes half a log, under a hidden name with this number.
    pub(crate) fn create_half(&self, number: u64) -> Result<Opened> {
        self.create_at(&half(number), OFlags::RDWR, 0o600)
    }

    /// Gives half a log its name; fails where that is taken.
    pub(crate) fn publish_half(&self, number: u64, name: &Name) -> Result<()> {
        linkat(&self.0, half(number), &self.0, name.as_str(), AtFlags::empty())?;
        unlinkat(&self.0, half(number), AtFlags::empty())
    }

    /// Takes half a log away.
    pub(crate) fn remove_half(&self, number: u64) -> Result<()> {
        unlinkat(&self.0, half(number), AtFlags::empty())
    }

    /// Takes away what a hub that was cut short has left of half a log.
    pub(crate) fn remove_halves(&self) -> Result<()> {
        let mut entries = self.entries()?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(HALF.as_bytes()) {
                unlinkat(&self.0, entry.file_name(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Makes a folder in this one.
    pub(crate) fn make_folder(&self, name: &str, mode: u32) -> Result<()> {
        mkdirat(&self.0, name, Mode::from_raw_mode(mode))
    }

    /// Takes a file's name away.
    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        unlinkat(&self.0, name, AtFlags::empty())
    }

    /// Takes an empty folder away.
    pub(crate) fn remove_folder(&self, name: &str) -> Result<()> {
        unlinkat(&self.0, name, AtFlags::REMOVEDIR)
    }

    /// Gives what is at a name in this folder a name in another, in place of what is there.
    pub(crate) fn rename(&self, from: &str, to_folder: &Self, to: &str) -> Result<()> {
        renameat(&self.0, from, &to_folder.0, to)
    }

    /// What is in it, one after the other.
    pub(crate) fn entries(&self) -> Result<Dir> {
        Dir::read_from(&self.0)
    }

    /// Its descriptor, to be synced or asked for room.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Counts all that is below it.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut found = Usage::default();
        // Twice as deep as hosts can see, in case somebody has put something there by hand; a folder below that would
        // be a mistake, and not counted.
        self.walk(2 * MAX_DEPTH, &mut |_, stat| {
            found.files += 1;
            if kind(stat) == Kind::File {
                found.bytes = found.bytes.saturating_add(size(stat));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// How many folders are in each other below it; fails with `E2BIG` where it has more than `most` entries.
    pub(crate) fn height(&self, most: usize) -> Result<usize> {
        let (mut height, mut seen) = (0, 0);
        self.walk(2 * MAX_DEPTH, &mut |depth, _| {
            seen += 1;
            height = height.max(depth);
            if seen > most { Err(Errno::TOOBIG) } else { Ok(()) }
        })?;
        Ok(height)
    }

    /// Calls `each` for everything below it, with how deep it lies. One descriptor for each level at a time.
    fn walk(&self, deepest: usize, each: &mut dyn FnMut(usize, &Stat) -> Result<()>) -> Result<()> {
        self.walk_from(1, deepest, each)
    }

    fn walk_from(
        &self,
        depth: usize,
        deepest: usize,
        each: &mut dyn FnMut(usize, &Stat) -> Result<()>,
    ) -> Result<()> {
        let mut entries = self.entries()?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if is_itself(name) {
                continue;
            }
            // What is gone meanwhile does not count.
            let stat = match self.stat_entry(name) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            each(depth, &stat)?;
            if kind(&stat) == Kind::Folder && depth < deepest {
                let flags = FOLDER | OFlags::NOFOLLOW;
                match openat2(&self.0, name, flags, Mode::empty(), INSIDE | ResolveFlags::NO_XDEV) {
                    Ok(below) => Self(below).walk_from(depth + 1, deepest, each)?,
                    // Gone, or another thing by now, or a disk of its own.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Whether a name that a folder lists is the folder itself or the one above.
pub(crate) fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn half(number: u64) -> String {
    format!("{HALF}{number}")
}

fn joined(names: &[Name]) -> String {
    if names.is_empty() {
        return ".".to_owned();
    }
    names.iter().map(Name::as_str).collect::<Vec<_>>().join("/")
}

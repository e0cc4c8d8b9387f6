//! Files that a host has open: how they are opened, read, written and closed in each area.

use std::os::fd::OwnedFd;

use russh_sftp::protocol::{FileAttributes, OpenFlags};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps, fchmod, fstat, fsync, ftruncate, futimens};
use rustix::io::{Errno, pread, pwrite};

use super::account::{Account, FileId};
use super::disk::{self, Folder, Kind, Opened};
use super::path::{Area, Name};
use super::refusal::Refusal;
use super::rules::{Act, file_mode, folder_mode};
use super::session::{Answer, Handle, Session};
use super::world::World;

/// The most that is read in one request, and should be written, in bytes. Clients that ask use it for all, many at a time:
/// OpenSSH's own 255 KiB would be 16 MiB under way.
pub(crate) const MAX_DATA: u32 = 64 * 1024;

/// A file that a host has open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(super) file: OwnedFd,
    pub(super) area: Area,
    id: FileId,
    read: bool,
    write: bool,
    append: bool,
    /// Whether the books know that it is open.
    held: bool,
    log: Option<Half>,
}

/// A log that is being written: it is there under its name when it is closed, and not at all if it never is.
#[derive(Debug)]
struct Half {
    number: u64,
    name: Name,
    /// Whether something of it could not be written: a client may close it all the same.
    spoiled: bool,
}

impl Session {
    /// Opens a file, or makes one.
    pub(super) fn open(
        &mut self,
        path: &str,
        flags: OpenFlags,
        attributes: &FileAttributes,
    ) -> Result<Answer, Refusal> {
        let append = flags.contains(OpenFlags::APPEND);
        let write = append || flags.intersects(OpenFlags::WRITE | OpenFlags::TRUNCATE);
        let read = flags.contains(OpenFlags::READ) || !write;
        let act = if write || flags.contains(OpenFlags::CREATE) { Act::Write } else { Act::Read };
        let (area, folder, names) = self.inside(path, act)?;
        self.room()?;
        let access = match (read, write) {
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
        };
        let as_opened = |opened: Opened, held, log| OpenFile {
            id: disk::id(&opened.stat),
            file: opened.file,
            area,
            read,
            write,
            append,
            held,
            log,
        };
        let file = match (area, act) {
            (Area::Backup, _) => {
                let mode = file_mode(attributes.permissions.unwrap_or(0o600));
                let opened = self.world.booked(area, &folder, |account| {
                    let opened = open_backup(account, &folder, &names, flags, access, mode)?;
                    account.hold(disk::id(&opened.stat));
                    Ok(opened)
                })?;
                as_opened(opened, true, None)
            }
            (Area::Logs, Act::Write) => {
                let name = names.into_iter().next().ok_or(Refusal::Missing)?;
                if !write || !flags.contains(OpenFlags::CREATE) || folder.stat_entry(name.as_str()).is_ok() {
                    return Err(Refusal::Denied("a log is written once: under a new name, as a whole"));
                }
                let number = self.world.next_half();
                let opened = self.world.booked(area, &folder, |account| {
                    account.may_add()?;
                    let opened = folder.create_half(number)?;
                    account.added();
                    account.hold(disk::id(&opened.stat));
                    Ok(opened)
                })?;
                as_opened(opened, true, Some(Half { number, name, spoiled: false }))
            }
            _ => as_opened(folder.existing(&names, access)?, false, None),
        };
        Ok(self.keep(Handle::File(file)))
    }

    /// Changes a file or folder of the backup by its name.
    pub(super) fn set_stat(&mut self, path: &str, attributes: &FileAttributes) -> Result<Answer, Refusal> {
        let (area, folder, names) = self.inside(path, Act::Change)?;
        let access = if attributes.size.is_some() { OFlags::RDWR } else { OFlags::RDONLY };
        self.world.booked(area, &folder, |account| match folder.existing(&names, access) {
            Ok(opened) => {
                alone(&opened)?;
                change(account, &opened.file, disk::id(&opened.stat), Kind::File, attributes)
            }
            Err(Errno::ISDIR) => {
                let below = folder.folder(&names)?;
                let id = disk::id(&fstat(below.descriptor())?);
                change(account, below.descriptor(), id, Kind::Folder, attributes)
            }
            Err(error) => Err(error.into()),
        })?;
        Ok(Answer::Done)
    }
}

fn open_backup(
    account: &mut Account,
    folder: &Folder,
    names: &[Name],
    flags: OpenFlags,
    access: OFlags,
    mode: u32,
) -> Result<Opened, Refusal> {
    let create = flags.contains(OpenFlags::CREATE);
    if !(create && flags.contains(OpenFlags::EXCLUDE)) {
        match folder.existing(names, access) {
            Ok(opened) => {
                if access != OFlags::RDONLY {
                    alone(&opened)?;
                }
                if flags.contains(OpenFlags::TRUNCATE) {
                    ftruncate(&opened.file, 0)?;
                    account.resized(disk::size(&opened.stat), 0);
                }
                return Ok(opened);
            }
            Err(Errno::NOENT) if create => {}
            Err(error) => return Err(error.into()),
        }
    }
    account.may_add()?;
    let opened = folder.create(names, access, mode)?;
    account.added();
    Ok(opened)
}

/// A file with a second name may be somebody else's under that one, or an operator's snapshot: it can be read, and its
/// name taken away, but it stays what it is.
fn alone(opened: &Opened) -> Result<(), Refusal> {
    if opened.stat.st_nlink > 1 {
        return Err(Refusal::Denied("the file has a second name on the hub, so it can't be changed"));
    }
    Ok(())
}

/// Gives a file another size, if the books allow it.
fn resize(account: &mut Account, file: &OwnedFd, id: FileId, to: u64) -> Result<(), Refusal> {
    named(account, id)?;
    let before = disk::size(&fstat(file)?);
    account.may_grow(before, to)?;
    ftruncate(file, to)?;
    account.resized(before, to);
    Ok(())
}

fn named(account: &Account, id: FileId) -> Result<(), Refusal> {
    if account.is_removed(id) {
        return Err(Refusal::Failed("the file was removed meanwhile".into()));
    }
    Ok(())
}

fn change(
    account: &mut Account,
    file: &OwnedFd,
    id: FileId,
    kind: Kind,
    attributes: &FileAttributes,
) -> Result<(), Refusal> {
    if attributes.uid.is_some() || attributes.gid.is_some() {
        return Err(Refusal::Denied("all files are the hub's own, and stay so"));
    }
    match (attributes.size, kind) {
        (Some(size), Kind::File) => resize(account, file, id, size)?,
        (Some(_), _) => return Err(Refusal::Failed("it is a folder".into())),
        (None, _) => {}
    }
    if let Some(asked) = attributes.permissions {
        let mode = if kind == Kind::File { file_mode(asked) } else { folder_mode(asked) };
        fchmod(file, Mode::from_raw_mode(mode))?;
    }
    if attributes.atime.is_some() || attributes.mtime.is_some() {
        let time = |seconds: Option<u32>| Timespec { tv_sec: i64::from(seconds.unwrap_or(0)), tv_nsec: 0 };
        let times =
            Timestamps { last_access: time(attributes.atime), last_modification: time(attributes.mtime) };
        futimens(file, &times)?;
    }
    Ok(())
}

impl OpenFile {
    /// Reads from an offset.
    pub(super) fn read(&self, offset: u64, length: u32) -> Result<Answer, Refusal> {
        if !self.read {
            return Err(Refusal::Denied("the file is open for writing only"));
        }
        let mut data = vec![0; length.min(MAX_DATA) as usize];
        let read = match pread(&self.file, &mut data, offset) {
            // Behind what any file can have.
            Err(Errno::INVAL | Errno::OVERFLOW) => 0,
            read => read?,
        };
        if read == 0 && length > 0 {
            return Err(Refusal::End);
        }
        data.truncate(read);
        Ok(Answer::Data(data))
    }

    /// Writes at an offset, all or as much as the disk has room for.
    pub(super) fn write(
        &mut self,
        world: &World,
        folder: &Folder,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Refusal> {
        let written = self.try_write(world, folder, offset, data);
        if let (Err(_), Some(half)) = (&written, &mut self.log) {
            half.spoiled = true;
        }
        written
    }

    fn try_write(&self, world: &World, folder: &Folder, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        if !self.write {
            return Err(Refusal::Denied("the file is open for reading only"));
        }
        if data.is_empty() {
            return Ok(());
        }
        world.booked(self.area, folder, |account| {
            named(account, self.id)?;
            let before = disk::size(&fstat(&self.file)?);
            let start = if self.append { before } else { offset };
            let end = start.saturating_add(data.len() as u64);
            account.may_grow(before, end)?;
            let written = write_all(&self.file, start, data);
            account.resized(before, disk::size(&fstat(&self.file)?));
            Ok(written?)
        })
    }

    /// Changes its size, mode or times.
    pub(super) fn change(
        &mut self,
        world: &World,
        folder: &Folder,
        attributes: &FileAttributes,
    ) -> Result<(), Refusal> {
        if !self.write {
            return Err(Refusal::Denied("the file is open for reading only"));
        }
        let of_log = self.log.is_some();
        if of_log && (attributes.permissions.is_some() || attributes.mtime.is_some()) {
            // When a log was written is the hub's to say, not that of who may want to hide it.
            return Err(Refusal::Denied("the mode and times of a log are the hub's"));
        }
        world
            .booked(self.area, folder, |account| change(account, &self.file, self.id, Kind::File, attributes))
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> Result<(), Refusal> {
        Ok(fsync(&self.file)?)
    }

    /// Closes it. A log is on the disk under its name then, as the host forgets it: both it and its folder are synced.
    pub(super) fn close(mut self, world: &World, root: &Folder) -> Result<(), Refusal> {
        let Some(half) = self.log.take() else {
            self.abandon(world, root);
            return Ok(());
        };
        let publish = || {
            if half.spoiled {
                return Err(Refusal::Failed("the log was not written as a whole, so it is not kept".into()));
            }
            self.sync()?;
            let folder = root.area(Area::Logs)?;
            folder.publish_half(half.number, &half.name)?;
            Ok(folder)
        };
        match publish() {
            Ok(folder) => {
                self.abandon(world, root);
                Ok(fsync(folder.descriptor())?)
            }
            Err(refusal) => {
                self.log = Some(half);
                self.abandon(world, root);
                Err(refusal)
            }
        }
    }

    /// Lets it go: half a log is gone with it.
    pub(super) fn abandon(self, world: &World, root: &Folder) {
        let gone = self.log.as_ref().is_some_and(|half| {
            root.area(Area::Logs).is_ok_and(|folder| folder.remove_half(half.number).is_ok())
        });
        if self.held {
            let size = fstat(&self.file).map_or(0, |stat| disk::size(&stat));
            world.settle(self.area, |account| {
                if gone {
                    account.removed(self.id, size);
                }
                account.release(self.id);
            });
        }
    }
}

fn write_all(file: &OwnedFd, start: u64, data: &[u8]) -> Result<(), Errno> {
    let (mut at, mut rest) = (start, data);
    while !rest.is_empty() {
        match pwrite(file, rest, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                at += written as u64;
                rest = rest.get(written..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! What a host does with names: look at them, take them away, give them to something else; and what room there is.

use russh_sftp::de;
use russh_sftp::extensions::{self, LimitsExtension, Statvfs};
use russh_sftp::protocol::FileAttributes;
use russh_sftp::ser;
use rustix::fs::{Stat, fstatvfs};
use rustix::io::Errno;
use serde::Serialize;

use super::account::{Account, Quota, Usage};
use super::disk::{self, Folder, Kind};
use super::files::MAX_DATA;
use super::path::{Area, MAX_DEPTH, MAX_NAME, Name, Place, parse};
use super::refusal::{NEITHER, Refusal};
use super::rules::{Act, folder_mode, may};
use super::serve::MAX_PACKET;
use super::session::{Answer, MAX_HANDLES, Session};

/// OpenSSH's rename that replaces what is there; russh-sftp has no word for it.
pub(crate) const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// How many entries a folder may have to be moved to where it lies deeper: all are looked at, to see how deep they are
/// then.
const MOVED_DEEPER: usize = 10_000;

/// The unit in which room is told, in bytes.
const BLOCK: u64 = 1024;

impl Session {
    /// A place to look at; nothing for the folder of the areas.
    pub(super) fn look(&self, path: &str) -> Result<Option<(Area, Folder, Vec<Name>)>, Refusal> {
        match parse(path)? {
            Place::Top => Ok(None),
            Place::Inside(area, names) => {
                may(area, &names, Act::Look)?;
                Ok(Some((area, self.root.area(area)?, names)))
            }
        }
    }

    /// Says what is at a path. There are no links, so it is what is there itself.
    pub(super) fn stat(&self, path: &str) -> Result<Answer, Refusal> {
        let stat = match self.look(path)? {
            None => self.root.stat(&[])?,
            Some((_, folder, names)) => folder.stat(&names)?,
        };
        known(&stat)?;
        Ok(Answer::Attributes(disk::attributes(&stat)))
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, path: &str, attributes: &FileAttributes) -> Result<Answer, Refusal> {
        let (area, folder, names) = self.inside(path, Act::Arrange)?;
        let mode = folder_mode(attributes.permissions.unwrap_or(0o700));
        self.world.booked(area, &folder, |account| {
            let (parent, name) = folder.parent(&names)?;
            // Said before the quota, as who makes sure of a folder takes it for an answer.
            if parent.stat_entry(name).is_ok() {
                return Err(Errno::EXIST.into());
            }
            account.may_add()?;
            parent.make_folder(name, mode)?;
            account.added();
            Ok(Answer::Done)
        })
    }

    /// Takes a file away.
    pub(super) fn remove(&self, path: &str) -> Result<Answer, Refusal> {
        let (area, folder, names) = self.inside(path, Act::Arrange)?;
        self.world.booked(area, &folder, |account| {
            let (parent, name) = folder.parent(&names)?;
            let stat = parent.stat_entry(name)?;
            if known(&stat)? == Kind::Folder {
                return Err(Errno::ISDIR.into());
            }
            parent.remove_file(name)?;
            gone(account, &stat);
            Ok(Answer::Done)
        })
    }

    /// Takes an empty folder away.
    pub(super) fn remove_folder(&self, path: &str) -> Result<Answer, Refusal> {
        let (area, folder, names) = self.inside(path, Act::Arrange)?;
        self.world.booked(area, &folder, |account| {
            let (parent, name) = folder.parent(&names)?;
            parent.remove_folder(name)?;
            account.removed_name();
            Ok(Answer::Done)
        })
    }

    /// Renames a file or folder, in place of what is there only if that was asked for.
    pub(super) fn rename(&self, from: &str, to: &str, replace: bool) -> Result<Answer, Refusal> {
        // Both ends are in the one area that can be arranged.
        let (area, folder, from) = self.inside(from, Act::Arrange)?;
        let (_, _, to) = self.inside(to, Act::Arrange)?;
        self.world.booked(area, &folder, |account| {
            let (from_folder, from_name) = folder.parent(&from)?;
            let (to_folder, to_name) = folder.parent(&to)?;
            let moved = from_folder.stat_entry(from_name)?;
            let there = match to_folder.stat_entry(to_name) {
                Err(Errno::NOENT) => None,
                stat => Some(stat?),
            };
            known(&moved)?;
            if let Some(there) = &there {
                known(there)?;
                if !replace {
                    return Err(Errno::EXIST.into());
                }
                if disk::id(there) == disk::id(&moved) {
                    // Two names of one file; the kernel leaves both as they are.
                    return Ok(Answer::Done);
                }
            }
            if disk::kind(&moved) == Kind::Folder && to.len() > from.len() {
                stays_shallow(&folder.folder(&from)?, to.len())?;
            }
            from_folder.rename(from_name, &to_folder, to_name)?;
            if let Some(there) = &there {
                gone(account, there);
            }
            Ok(Answer::Done)
        })
    }

    /// Requests that OpenSSH has added.
    pub(super) fn extended(&mut self, request: &str, data: Vec<u8>) -> Result<Answer, Refusal> {
        let malformed = |_| Refusal::Malformed;
        let mut data = data.into();
        match request {
            POSIX_RENAME => {
                let (from, to): (String, String) = de::from_bytes(&mut data).map_err(malformed)?;
                self.rename(&from, &to, true)
            }
            extensions::FSYNC => {
                let (handle,): (String,) = de::from_bytes(&mut data).map_err(malformed)?;
                self.file(&handle)?.sync()?;
                Ok(Answer::Done)
            }
            extensions::STATVFS => {
                let (path,): (String,) = de::from_bytes(&mut data).map_err(malformed)?;
                encoded(&self.room_at(&path)?)
            }
            extensions::LIMITS => encoded(&LimitsExtension {
                max_packet_len: MAX_PACKET.into(),
                max_read_len: MAX_DATA.into(),
                max_write_len: MAX_DATA.into(),
                max_open_handles: MAX_HANDLES as u64,
            }),
            // `hardlink@openssh.com` among them: nothing has two names by a host's wish.
            _ => Err(Refusal::Unsupported),
        }
    }

    /// What room there is at a path; that of the backup for the folder of the areas.
    fn room_at(&self, path: &str) -> Result<Statvfs, Refusal> {
        let (area, folder) = match self.look(path)? {
            None => (Area::Backup, self.root.area(Area::Backup)?),
            Some((area, folder, _)) => (area, folder),
        };
        let disk = fstatvfs(folder.descriptor())?;
        let (quota, left) = match area {
            Area::Config => (
                Quota { bytes: disk.f_blocks.saturating_mul(disk.f_frsize), files: disk.f_files },
                Usage::default(),
            ),
            _ => self.world.booked(area, &folder, |account| Ok((account.quota(), account.left())))?,
        };
        let bytes = left.bytes.min(disk.f_bavail.saturating_mul(disk.f_frsize)) / BLOCK;
        // Some file systems have no fixed number of inodes, and say 0.
        let files = if disk.f_files == 0 { left.files } else { left.files.min(disk.f_favail) };
        Ok(Statvfs {
            block_size: BLOCK,
            fragment_size: BLOCK,
            blocks: quota.bytes / BLOCK,
            blocks_free: bytes,
            blocks_avail: bytes,
            inodes: quota.files,
            inodes_free: files,
            inodes_avail: files,
            fs_id: 0,
            flags: u64::from(area == Area::Config),
            name_max: MAX_NAME as u64,
        })
    }
}

fn encoded(value: &impl Serialize) -> Result<Answer, Refusal> {
    ser::to_bytes(value)
        .map(|bytes| Answer::Extended(bytes.to_vec()))
        .map_err(|_| Refusal::Failed("the answer can't be written".into()))
}

/// Nothing is done with links, pipes and devices, not even by their name.
fn known(stat: &Stat) -> Result<Kind, Refusal> {
    match disk::kind(stat) {
        Kind::Other => Err(Refusal::Failed(NEITHER.into())),
        kind => Ok(kind),
    }
}

/// Books that a name is gone, of what was this before.
fn gone(account: &mut Account, stat: &Stat) {
    match disk::kind(stat) {
        Kind::File if stat.st_nlink == 1 => account.removed(disk::id(stat), disk::size(stat)),
        kind => {
            if kind == Kind::File {
                // Each name of a file was counted with its size.
                account.resized(disk::size(stat), 0);
            }
            account.removed_name();
        }
    }
}

/// Whether all that is in a folder can still be reached where the folder lies that deep. Folders would get as deep as one
/// likes by being moved into each other otherwise, and whoever walks through them would not come to an end.
fn stays_shallow(folder: &Folder, depth: usize) -> Result<(), Refusal> {
    match folder.height(MOVED_DEEPER) {
        Ok(height) if depth + height <= MAX_DEPTH => Ok(()),
        Ok(_) => Err(Refusal::Failed(format!("at most {MAX_DEPTH} folders can be in each other"))),
        Err(Errno::TOOBIG) => Err(Refusal::Failed(format!(
            "a folder with more than {MOVED_DEEPER} files can't be moved into a deeper one"
        ))),
        Err(error) => Err(error.into()),
    }
}

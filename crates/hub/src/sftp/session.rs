//! One session of a host: a request comes in, its answer goes out. It blocks on the disk and on the books, so it runs
//! where that is no harm.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use russh_sftp::protocol::{
    Attrs, File, FileAttributes, Handle as HandleReply, Name as Names, Packet, StatusCode,
};
use rustix::fs::fstat;

use super::disk::{self, Folder};
use super::files::OpenFile;
use super::listing::Listing;
use super::path::{Area, Name, Place, display, parse};
use super::refusal::Refusal;
use super::rules::{Act, may};
use super::world::World;

/// How many files and folders a session may have open.
pub(crate) const MAX_HANDLES: usize = 64;

/// What a host has open.
#[derive(Debug)]
pub(crate) enum Handle {
    File(OpenFile),
    Listing(Listing),
}

/// A host's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) world: Arc<World>,
    pub(super) root: Folder,
    handles: HashMap<u64, Handle>,
    opened: u64,
}

/// What goes into an answer that is more than "done".
pub(crate) enum Answer {
    Done,
    Handle(u64),
    Data(Vec<u8>),
    Names(Vec<File>),
    Attributes(FileAttributes),
    Extended(Vec<u8>),
}

impl Answer {
    fn packet(self, id: u32) -> Packet {
        match self {
            Self::Done => Packet::status(id, StatusCode::Ok, "done", "en"),
            Self::Handle(handle) => HandleReply { id, handle: handle.to_string() }.into(),
            Self::Data(data) => russh_sftp::protocol::Data { id, data }.into(),
            Self::Names(files) => Names { id, files }.into(),
            Self::Attributes(attrs) => Attrs { id, attrs }.into(),
            Self::Extended(data) => russh_sftp::protocol::ExtendedReply { id, data }.into(),
        }
    }
}

impl Session {
    /// Enters a world.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn enter(world: Arc<World>) -> io::Result<Self> {
        let root = world.enter()?;
        Ok(Self { world, root, handles: HashMap::new(), opened: 0 })
    }

    /// Does what a request asks for, and answers it.
    pub(crate) fn answer(&mut self, request: Packet) -> Packet {
        let id = request.get_request_id();
        self.act(request).map_or_else(|refusal| refusal.packet(id), |answer| answer.packet(id))
    }

    fn act(&mut self, request: Packet) -> Result<Answer, Refusal> {
        match request {
            Packet::Open(open) => self.open(&open.filename, open.pflags, &open.attrs),
            Packet::Close(close) => self.close(&close.handle),
            Packet::Read(read) => self.file(&read.handle)?.read(read.offset, read.len),
            Packet::Write(write) => self.write(&write.handle, write.offset, &write.data),
            Packet::Lstat(lstat) => self.stat(&lstat.path),
            Packet::Stat(stat) => self.stat(&stat.path),
            Packet::Fstat(of) => match self.handle(&of.handle)? {
                Handle::File(file) => Ok(Answer::Attributes(disk::attributes(&fstat(&file.file)?))),
                Handle::Listing(_) => Err(Refusal::Failed("it is a folder".into())),
            },
            Packet::SetStat(set) => self.set_stat(&set.path, &set.attrs),
            Packet::FSetStat(set) => self.set_stat_of(&set.handle, &set.attrs),
            Packet::OpenDir(open) => self.open_folder(&open.path),
            Packet::ReadDir(read) => match self.handle(&read.handle)? {
                Handle::Listing(listing) => listing.next_batch().map(Answer::Names),
                Handle::File(_) => Err(Refusal::Failed("it is not a folder".into())),
            },
            Packet::Remove(remove) => self.remove(&remove.filename),
            Packet::MkDir(make) => self.make_folder(&make.path, &make.attrs),
            Packet::RmDir(remove) => self.remove_folder(&remove.path),
            Packet::RealPath(real) => {
                parse(&real.path).map(|place| Answer::Names(vec![File::dummy(display(&place))]))
            }
            Packet::Rename(rename) => self.rename(&rename.oldpath, &rename.newpath, false),
            Packet::Extended(extended) => self.extended(&extended.request, extended.data),
            // There are no links, and none can be made.
            Packet::ReadLink(_) | Packet::Symlink(_) => Err(Refusal::Unsupported),
            // A second greeting, or what only a server says.
            _ => Err(Refusal::Malformed),
        }
    }

    /// What is at a path inside an area, if the host may do that with it; with the area's folder.
    pub(super) fn inside(&self, path: &str, act: Act) -> Result<(Area, Folder, Vec<Name>), Refusal> {
        match parse(path)? {
            Place::Top => Err(Refusal::Denied("this folder stays as it is")),
            Place::Inside(area, names) => {
                may(area, &names, act)?;
                Ok((area, self.root.area(area)?, names))
            }
        }
    }

    /// Keeps what was opened, under a number that was never used before. [`Session::room`] has been asked.
    pub(super) fn keep(&mut self, handle: Handle) -> Answer {
        self.opened += 1;
        self.handles.insert(self.opened, handle);
        Answer::Handle(self.opened)
    }

    /// Whether one more can be opened.
    pub(super) fn room(&self) -> Result<(), Refusal> {
        if self.handles.len() >= MAX_HANDLES {
            return Err(Refusal::Failed(format!("at most {MAX_HANDLES} files can be open at once")));
        }
        Ok(())
    }

    fn handle(&mut self, handle: &str) -> Result<&mut Handle, Refusal> {
        number(handle).and_then(|number| self.handles.get_mut(&number)).ok_or_else(not_open)
    }

    pub(super) fn file(&mut self, handle: &str) -> Result<&mut OpenFile, Refusal> {
        match self.handle(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Listing(_) => Err(Refusal::Failed("it is a folder".into())),
        }
    }

    fn write(&mut self, handle: &str, offset: u64, data: &[u8]) -> Result<Answer, Refusal> {
        let world = Arc::clone(&self.world);
        let area = self.file(handle)?.area;
        let folder = self.root.area(area)?;
        self.file(handle)?.write(&world, &folder, offset, data)?;
        Ok(Answer::Done)
    }

    fn set_stat_of(&mut self, handle: &str, attributes: &FileAttributes) -> Result<Answer, Refusal> {
        let world = Arc::clone(&self.world);
        let area = self.file(handle)?.area;
        let folder = self.root.area(area)?;
        self.file(handle)?.change(&world, &folder, attributes)?;
        Ok(Answer::Done)
    }

    fn close(&mut self, handle: &str) -> Result<Answer, Refusal> {
        let handle = number(handle).and_then(|number| self.handles.remove(&number)).ok_or_else(not_open)?;
        match handle {
            Handle::File(file) => file.close(&self.world, &self.root)?,
            Handle::Listing(_) => {}
        }
        Ok(Answer::Done)
    }
}

impl Drop for Session {
    /// What was never closed is not kept as if it had been.
    fn drop(&mut self) {
        for (_, handle) in self.handles.drain() {
            if let Handle::File(file) = handle {
                file.abandon(&self.world, &self.root);
            }
        }
    }
}

/// A handle as it was given out: no other spelling of its number.
fn number(handle: &str) -> Option<u64> {
    handle.parse().ok().filter(|number: &u64| number.to_string() == handle)
}

fn not_open() -> Refusal {
    Refusal::Failed("no such file is open".into())
}

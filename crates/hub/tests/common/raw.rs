//! SFTP by the byte, for what a well-behaved client would never send.

use std::time::Duration;

use bosco_hub::sftp::Ended;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// Flags of an open.
pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const APPEND: u32 = 4;
pub const CREATE: u32 = 8;
pub const TRUNCATE: u32 = 16;
pub const EXCLUDE: u32 = 32;

/// Kinds of requests.
pub const OPEN: u8 = 3;
pub const LSTAT: u8 = 7;
pub const SETSTAT: u8 = 9;
pub const OPENDIR: u8 = 11;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const RMDIR: u8 = 15;
pub const REALPATH: u8 = 16;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const READLINK: u8 = 19;
pub const SYMLINK: u8 = 20;

/// An answer: what it is, and what is in it behind its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(u32, String),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<String>),
    Attributes(Vec<u8>),
    Extended(Vec<u8>),
}

impl Reply {
    /// Whether it was done, or gave something.
    pub fn is_ok(&self) -> bool {
        !matches!(self, Self::Status(1.., _))
    }

    /// The handle that it gave.
    pub fn handle(self) -> Vec<u8> {
        match self {
            Self::Handle(handle) => handle,
            other => panic!("no handle, but {other:?}"),
        }
    }

    /// Why it was refused.
    pub fn message(self) -> String {
        match self {
            Self::Status(1.., message) => message,
            other => panic!("not refused, but {other:?}"),
        }
    }
}

/// One session, from the client's side.
pub struct Raw {
    runtime: Handle,
    stream: DuplexStream,
    served: JoinHandle<Result<(), Ended>>,
    number: u32,
}

/// Bytes with their length in front.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn number(bytes: &mut &[u8]) -> u32 {
    u32::from_be_bytes(take(bytes, 4).try_into().unwrap())
}

fn text(bytes: &mut &[u8]) -> Vec<u8> {
    let length = number(bytes) as usize;
    take(bytes, length).to_vec()
}

impl Raw {
    pub(super) fn new(runtime: Handle, stream: DuplexStream, served: JoinHandle<Result<(), Ended>>) -> Self {
        Self { runtime, stream, served, number: 0 }
    }

    pub(super) fn greet(&mut self) {
        self.send(&[&5_u32.to_be_bytes()[..], &[1], &3_u32.to_be_bytes()].concat());
        assert_eq!(self.receive()[0], 2, "no greeting");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = self.runtime.block_on(async { timeout(LIMIT, self.stream.write_all(bytes)).await });
        let _ = sent.expect("the hub takes nothing");
    }

    /// The next packet, from its kind on.
    pub fn receive(&mut self) -> Vec<u8> {
        let packet = self.runtime.clone().block_on(async {
            let read = async {
                let length = self.stream.read_u32().await?;
                let mut packet = vec![0; length as usize];
                self.stream.read_exact(&mut packet).await?;
                Ok::<_, std::io::Error>(packet)
            };
            timeout(LIMIT, read).await
        });
        packet.expect("the hub does not answer").expect("the hub has ended the session")
    }

    /// Sends a request without waiting for its answer; gives its number.
    pub fn begin(&mut self, kind: u8, body: &[u8]) -> u32 {
        self.number += 1;
        let length = (body.len() + 5) as u32;
        let packet = [&length.to_be_bytes(), &[kind][..], &self.number.to_be_bytes(), body].concat();
        self.send(&packet);
        self.number
    }

    /// Sends a request, and waits for its answer.
    pub fn ask(&mut self, kind: u8, body: &[u8]) -> Reply {
        let asked = self.begin(kind, body);
        self.reply(asked)
    }

    /// The next answer, which is to this request.
    pub fn reply(&mut self, asked: u32) -> Reply {
        let packet = self.receive();
        let mut rest = &packet[1..];
        assert_eq!(number(&mut rest), asked, "the answer to another request");
        match packet[0] {
            101 => {
                let code = number(&mut rest);
                Reply::Status(code, String::from_utf8(text(&mut rest)).unwrap())
            }
            102 => Reply::Handle(text(&mut rest)),
            103 => Reply::Data(text(&mut rest)),
            104 => {
                let count = number(&mut rest);
                Reply::Names((0..count).map(|_| name(&mut rest)).collect())
            }
            105 => Reply::Attributes(rest.to_vec()),
            201 => Reply::Extended(rest.to_vec()),
            kind => panic!("an answer of kind {kind}"),
        }
    }

    /// Asks for something with one path.
    pub fn at(&mut self, kind: u8, path: impl AsRef<[u8]>) -> Reply {
        let attributes: &[u8] = if kind == MKDIR { &[0; 4] } else { &[] };
        self.ask(kind, &[&string(path), attributes].concat())
    }

    /// Asks for something with two paths.
    pub fn between(&mut self, kind: u8, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Reply {
        self.ask(kind, &[string(from), string(to)].concat())
    }

    pub fn open(&mut self, path: impl AsRef<[u8]>, flags: u32) -> Reply {
        self.ask(OPEN, &[&string(path), &flags.to_be_bytes()[..], &[0; 4]].concat())
    }

    pub fn close(&mut self, handle: &[u8]) -> Reply {
        self.ask(4, &string(handle))
    }

    pub fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> Reply {
        self.ask(5, &[&string(handle), &offset.to_be_bytes()[..], &length.to_be_bytes()].concat())
    }

    pub fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> Reply {
        self.ask(6, &[&string(handle), &offset.to_be_bytes()[..], &string(data)].concat())
    }

    /// Sets a file's size by its name.
    pub fn truncate(&mut self, path: &str, size: u64) -> Reply {
        self.ask(SETSTAT, &[&string(path), &1_u32.to_be_bytes()[..], &size.to_be_bytes()].concat())
    }

    /// Sets the permissions of what is at a path.
    pub fn chmod(&mut self, path: &str, mode: u32) -> Reply {
        self.ask(SETSTAT, &[&string(path), &4_u32.to_be_bytes()[..], &mode.to_be_bytes()].concat())
    }

    pub fn extended(&mut self, request: &str, body: &[u8]) -> Reply {
        self.ask(200, &[&string(request), body].concat())
    }

    /// Opens, writes and closes a whole file.
    pub fn put(&mut self, path: impl AsRef<[u8]>, data: &[u8]) -> Reply {
        let handle = match self.open(path, WRITE | CREATE | TRUNCATE) {
            Reply::Handle(handle) => handle,
            refused => return refused,
        };
        let written = self.write(&handle, 0, data);
        let closed = self.close(&handle);
        if written.is_ok() { closed } else { written }
    }

    /// The names in a folder, sorted.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let handle = self.at(OPENDIR, path).handle();
        let mut all = Vec::new();
        while let Reply::Names(names) = self.ask(12, &string(&handle)) {
            all.extend(names);
        }
        self.close(&handle);
        all.sort();
        all
    }

    /// Says that nothing more comes, and how the session ended.
    pub fn end(mut self) -> Result<(), Ended> {
        let _ = self.runtime.clone().block_on(self.stream.shutdown());
        Self::ended(&self.runtime, self.served)
    }

    /// Is gone at once, and says how the session ended.
    pub fn hang_up(self) -> Result<(), Ended> {
        drop(self.stream);
        Self::ended(&self.runtime, self.served)
    }

    /// Has the hub drop the session, as one does that shuts down.
    pub fn dropped(self) {
        self.served.abort();
        let _ = self
            .runtime
            .block_on(async { timeout(LIMIT, self.served).await })
            .expect("the session does not end");
    }

    fn ended(runtime: &Handle, served: JoinHandle<Result<(), Ended>>) -> Result<(), Ended> {
        let ended = runtime.block_on(async { timeout(LIMIT, served).await });
        ended.expect("the session does not end").unwrap()
    }
}

fn name(rest: &mut &[u8]) -> String {
    let name = String::from_utf8(text(rest)).unwrap();
    text(rest);
    let flags = number(rest);
    for (flag, length) in [(1, 8), (2, 8), (4, 4), (8, 8)] {
        if flags & flag != 0 {
            take(rest, length);
        }
    }
    name
}

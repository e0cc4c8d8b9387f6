//! The wire: packets from a stream to a session, and its answers back in the same order.
//!
//! russh-sftp reads and writes the packets, but its `server::run` is not used. That one goes on in the middle of a packet
//! that was too long, taking what is in it for packets; it turns for ever where a stream keeps failing; it waits for the
//! rest of a packet without limit; and nobody learns when it ends. Its decoder was read for this: it looks before it takes,
//! allocates no more than the packet is long, and does not recurse.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh_sftp::extensions;
use russh_sftp::protocol::{Packet, Version};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio::try_join;

use super::refusal::Refusal;
use super::session::Session;
use super::tree::POSIX_RENAME;
use super::world::World;

/// The longest packet that is read, in bytes without its length: OpenSSH's.
pub(crate) const MAX_PACKET: u32 = 256 * 1024;

/// How much of what a host sends ahead waits here, in bytes. OpenSSH and Go's library have 64 requests under way for a
/// file, of [`MAX_DATA`](super::files::MAX_DATA) bytes or less; beyond this they wait in the connection.
const AHEAD: usize = 8 << 20;

/// What a packet takes of that besides its bytes.
const EACH: usize = 256;

/// How long the rest of a packet may take to come, and an answer to be taken. Between packets a host may take its time:
/// whether it is still there is for the connection to find out.
const STALLED: Duration = Duration::from_secs(300);

/// The version of the protocol, the one that all speak.
const VERSION: u32 = 3;

/// Why a session ended before the host was done.
#[derive(Debug, Error)]
pub enum Ended {
    /// What came is no SFTP, or longer than any packet may be.
    #[error("the host does not speak SFTP: {0}")]
    NotSftp(&'static str),
    /// The host began a packet, or asked for something, and then neither sent nor took any more.
    #[error("the host's SFTP session stands still since {} s", STALLED.as_secs())]
    Stalled,
    /// The connection failed.
    #[error("the connection of the host's SFTP session failed")]
    Connection(#[source] io::Error),
    /// The host's folder can't be opened or made.
    #[error("can't enter the host's folder")]
    World(#[source] io::Error),
    /// A mistake in this program ended it.
    #[error("the host's SFTP session broke off")]
    Broken,
}

/// Serves a host its world over a stream, until the host ends it; then the stream is shut down, and what the host had open
/// is closed. Dropping the future ends the session too.
///
/// There is one request at a time, each on a thread for blocking work, since a disk can take long. Those that a host sends
/// ahead wait in a queue of some megabytes, and are read also while an answer is on its way: russh hands both directions
/// of a connection on in one loop, so it would take no answer while it waits for somebody to read a request.
///
/// # Errors
/// Where it ended in another way. There is nobody to tell but a log.
pub async fn serve<S>(stream: S, world: Arc<World>) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut requests, mut answers) = split(stream);
    let Some(first) = packet(&mut requests).await? else { return Ok(()) };
    match read(first) {
        Ok(Packet::Init(init)) if init.version >= VERSION => {}
        _ => return Err(Ended::NotSftp("it does not begin with a greeting of version 3")),
    }
    let mut entered = spawn_blocking(move || Session::enter(world).map(Entered::new))
        .await
        .map_err(|_| Ended::Broken)?
        .map_err(Ended::World)?;
    answer(&mut answers, greeting()).await?;

    // Bounded by the room that each packet in it takes.
    let (ahead, mut queue) = unbounded_channel();
    let room = Arc::new(Semaphore::new(AHEAD));
    let reading = async move {
        while let Some(bytes) = packet(&mut requests).await? {
            let needed = u32::try_from(bytes.len() + EACH).map_err(|_| Ended::Broken)?;
            let taken = Arc::clone(&room).acquire_many_owned(needed).await.map_err(|_| Ended::Broken)?;
            ahead.send((bytes, taken)).map_err(|_| Ended::Broken)?;
        }
        drop(ahead);
        Ok(())
    };
    let answering = async {
        while let Some((bytes, taken)) = queue.recv().await {
            let done = spawn_blocking(move || {
                let answer = entered.answer(bytes);
                (entered, answer)
            });
            let reply;
            (entered, reply) = done.await.map_err(|_| Ended::Broken)?;
            drop(taken);
            answer(&mut answers, reply?).await?;
        }
        // What it still had open is gone before the end is told.
        spawn_blocking(move || drop(entered.0.take())).await.map_err(|_| Ended::Broken)
    };
    try_join!(reading, answering)?;
    timeout(STALLED, answers.shutdown()).await.map_err(|_| Ended::Stalled)?.map_err(Ended::Connection)
}

/// A session that is left on a thread for blocking work, from wherever it is dropped: what it had open is taken from the
/// disk and out of the books, and others may hold those.
struct Entered(Option<Session>);

impl Entered {
    fn new(session: Session) -> Self {
        Self(Some(session))
    }

    fn answer(&mut self, bytes: Bytes) -> Result<Packet, Ended> {
        let session = self.0.as_mut().ok_or(Ended::Broken)?;
        Ok(match read(bytes) {
            Ok(request) => session.answer(request),
            Err((number, refusal)) => refusal.packet(number),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let session = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(session));
        }
    }
}

fn greeting() -> Packet {
    let extension = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    let extensions = HashMap::from([
        extension(POSIX_RENAME, "1"),
        extension(extensions::STATVFS, "2"),
        extension(extensions::FSYNC, "1"),
        extension(extensions::LIMITS, "1"),
    ]);
    Version { version: VERSION, extensions }.into()
}

/// The next packet without its length; nothing where the stream has ended between two.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, Ended> {
    let mut first = [0];
    if stream.read(&mut first).await.map_err(Ended::Connection)? == 0 {
        return Ok(None);
    }
    let whole = async {
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).await?;
        let length = u32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]);
        if length == 0 || length > MAX_PACKET {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).await?;
        Ok(Some(bytes))
    };
    match timeout(STALLED, whole).await {
        Err(_) => Err(Ended::Stalled),
        // Half a packet: the connection is gone.
        Ok(Err(error)) => Err(Ended::Connection(error)),
        // What follows can't be told apart from what is in it.
        Ok(Ok(None)) => Err(Ended::NotSftp("a packet is empty or longer than 256 KiB")),
        Ok(Ok(Some(bytes))) => Ok(Some(bytes.into())),
    }
}

/// Reads a packet, or says why not to which request. Its number comes behind its kind in all of them.
fn read(mut bytes: Bytes) -> Result<Packet, (u32, Refusal)> {
    let kind = bytes.first().copied().unwrap_or(0);
    let number = bytes.get(1..5).and_then(|number| number.try_into().ok()).map_or(0, u32::from_be_bytes);
    let known = (1..=20).contains(&kind) || kind == 200;
    Packet::try_from(&mut bytes)
        .map_err(|_| (number, if known { Refusal::Malformed } else { Refusal::Unsupported }))
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), answer: Packet) -> Result<(), Ended> {
    let bytes = Bytes::try_from(answer).map_err(|_| Ended::Broken)?;
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    timeout(STALLED, sent).await.map_err(|_| Ended::Stalled)?.map_err(Ended::Connection)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_packet_breaks_the_reader(
            kind in prop_oneof![1..=20_u8, 101..=105_u8, Just(200), Just(201), any::<u8>()],
            rest in proptest::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..200),
        ) {
            let bytes = [vec![kind], rest].concat();
            drop(read(bytes.into()));
        }
    }
}

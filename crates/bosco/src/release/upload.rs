//! Sending a hub what it lacks: secrets as they were sealed; archives in one stream, each compressed before its head is sent, and
//! compared with its hash; and what is in each closure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bosco_nix::{Archives, Nix, PathInfo};
use bosco_release::{Contents, Digest};
use bosco_wire::pack::Head;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, Exit};
use crate::event::{Event, Sink};
use crate::hub::Connection;

/// How many digests go into one question.
const DIGESTS_AT_ONCE: usize = 5_000;
/// How hard zstd tries: its own default.
const LEVEL: i32 = 3;
/// How much is read and sent at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// How often the progress is told.
const TELL: Duration = Duration::from_millis(250);
/// How long the hub may take nothing: it writes to a disk.
const STALL: Duration = Duration::from_secs(300);

/// How many bytes a second a hub has to take at least of a closure, or of a bundle of secrets.
const LEAST_RATE: u64 = 64 * 1024;

/// Sends what the hub lacks of closures, whose paths these are: archives first, then the closures that need them, one by one.
pub(crate) async fn upload(
    hub: &mut Connection,
    nix: Nix,
    closures: &BTreeMap<Digest, Contents>,
    paths: &BTreeMap<Digest, PathInfo>,
    events: &Sink,
) -> Result<(), Error> {
    let digests: Vec<&Digest> = closures.keys().collect();
    let lacking = missing(hub, "/v1/closures/missing", &digests).await?;
    let closures: Vec<&Contents> = lacking.iter().filter_map(|digest| closures.get(digest)).collect();
    // What the hub has a closure of, it has the archives of.
    let hashes = closures.iter().flat_map(|contents| contents.iter().map(|path| &path.hash));
    let paths = hashes.filter_map(|hash| Some((*hash, paths.get(hash)?.clone()))).collect();
    archives(hub, nix, &paths, events).await?;
    for contents in closures {
        let size = serde_json::to_vec(contents).map_or(0, |text| text.len() as u64);
        let _: Digest = hub.post("/v1/closures", contents, Duration::from_secs(size / LEAST_RATE)).await?;
    }
    Ok(())
}

/// Sends the bundles of secrets that the hub lacks.
pub(crate) async fn upload_bundles(
    hub: &mut Connection,
    bundles: &BTreeMap<Digest, Vec<u8>>,
) -> Result<(), Error> {
    let digests: Vec<&Digest> = bundles.keys().collect();
    for digest in missing(hub, "/v1/secrets/missing", &digests).await? {
        let Some(bundle) = bundles.get(&digest) else { continue };
        let limit = Duration::from_secs(bundle.len() as u64 / LEAST_RATE);
        hub.put(&format!("/v1/secrets/{digest}"), bundle.clone(), limit).await?;
    }
    Ok(())
}

/// Which of these the hub lacks.
async fn missing(hub: &mut Connection, path: &str, digests: &[&Digest]) -> Result<BTreeSet<Digest>, Error> {
    let mut missing = BTreeSet::new();
    for some in digests.chunks(DIGESTS_AT_ONCE) {
        let lacking: Vec<Digest> = hub.post(path, &some, Duration::ZERO).await?;
        // It gets what it was asked about, whatever else it names.
        missing.extend(lacking.into_iter().filter(|digest| some.binary_search(&digest).is_ok()));
    }
    Ok(missing)
}

/// Sends what the hub lacks of these paths.
async fn archives(
    hub: &mut Connection,
    nix: Nix,
    paths: &BTreeMap<Digest, PathInfo>,
    events: &Sink,
) -> Result<(), Error> {
    let digests: Vec<&Digest> = paths.keys().collect();
    let missing = missing(hub, "/v1/paths/missing", &digests).await?;
    let missing: Vec<(Digest, PathInfo)> =
        missing.iter().filter_map(|digest| Some((*digest, paths.get(digest)?.clone()))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let of = missing.iter().map(|(_, info)| info.size).sum();
    let count = missing.len();
    let (hashes, infos): (Vec<Digest>, Vec<PathInfo>) = missing.into_iter().unzip();
    let (store, _) = nix.store_here()?.closure(&[]).await?;
    let archives = store.archives(infos);
    let mut told = Instant::now();
    let tell = |bytes: u64| {
        if bytes == 0 || bytes == of || told.elapsed() >= TELL {
            told = Instant::now();
            events(Event::Uploading { paths: count, bytes, of });
        }
    };
    hub.upload("/v1/paths", |sender| feed(archives, hashes, sender, tell)).await
}

/// Makes the stream.
async fn feed(
    mut archives: Archives,
    hashes: Vec<Digest>,
    sender: mpsc::Sender<Bytes>,
    mut tell: impl FnMut(u64),
) -> Result<(), Error> {
    let full = |error: io::Error| {
        Error::new(Exit::Unable, format!("no temporary file can be written: {error}"))
            .hint("is its disk full?")
    };
    let mut spool = Some(Spool::new().map_err(full)?);
    let mut done = 0;
    tell(0);
    for expected in hashes {
        let Some(info) = archives.begin() else { break };
        let mut packer =
            Packer::new(spool.take().map_or_else(Spool::new, Ok).map_err(full)?).map_err(full)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = archives.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            // Where there are several threads, compressing holds up only this one.
            tokio::task::block_in_place(|| packer.write(&buffer[..read])).map_err(full)?;
            done += read as u64;
            tell(done);
        }
        let (hash, mut packed) = packer.finish().map_err(full)?;
        if hash != expected {
            let message = format!(
                "{} is damaged in the store here: its contents are not those that Nix knows",
                info.path
            );
            return Err(Error::new(Exit::NotBuilt, message)
                .hint("`nix-store --verify --check-contents --repair` mends it; nothing was published"));
        }
        let head = Head { hash, size: info.size, stored: packed.size };
        pass(&sender, Bytes::copy_from_slice(&head.to_bytes())).await?;
        loop {
            let piece = packed.read(CHUNK).map_err(full)?;
            if piece.is_empty() {
                break;
            }
            pass(&sender, piece.into()).await?;
        }
        spool = Some(packed);
    }
    Ok(())
}

async fn pass(sender: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), Error> {
    match timeout(STALL, sender.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        // Why it has ended is the answer.
        Ok(Err(_)) => Err(Error::new(Exit::Unreachable, "the hub takes no more")),
        Err(_) => Err(Error::new(Exit::Unreachable, "the hub has taken nothing for five minutes")
            .hint("release again: what it has, it keeps")),
    }
}

/// A file without a name, for one archive after the other: how long one is has to be said before it.
struct Spool {
    file: File,
    size: u64,
}

impl Spool {
    fn new() -> io::Result<Self> {
        // Several are sent from at once, where the hub builds.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let path = std::env::temp_dir().join(format!("bosco-pack-{}-{number}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, size: 0 })
    }

    /// At most so many of the bytes that are still to be read; none where there are no more.
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.file).take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Compresses an archive, and hashes it.
struct Packer {
    encoder: zstd::Encoder<'static, File>,
    hash: Sha256,
}

impl Packer {
    fn new(spool: Spool) -> io::Result<Self> {
        let mut file = spool.file;
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        Ok(Self { encoder: zstd::Encoder::new(file, LEVEL)?, hash: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.encoder.write_all(bytes)
    }

    fn finish(self) -> io::Result<(Digest, Spool)> {
        let mut file = self.encoder.finish()?;
        let size = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        Ok((Digest::from_bytes(self.hash.finalize().into()), Spool { file, size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_as_it_was_also_behind_something_longer() {
        let mut spool = Spool::new().unwrap();
        for archive in [vec![7_u8; 3 * CHUNK], b"short".to_vec()] {
            let mut packer = Packer::new(spool).unwrap();
            packer.write(&archive).unwrap();
            let (hash, mut packed) = packer.finish().unwrap();
            assert_eq!(hash, Digest::of(&[&archive]));
            let mut stored = Vec::new();
            loop {
                let piece = packed.read(CHUNK).unwrap();
                if piece.is_empty() {
                    break;
                }
                stored.extend(piece);
            }
            assert_eq!(stored.len() as u64, packed.size);
            assert_eq!(zstd::decode_all(stored.as_slice()).unwrap(), archive);
            spool = packed;
        }
    }
}

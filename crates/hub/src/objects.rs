//! Archives (NARs) on the hub's disk, compressed by zstd, named by their hash: what it says is what is in it, so nothing is
//! written twice and nothing changes.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bosco_release::Digest;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::store::StoreError;

/// How much is read at once.
const PIECE: usize = 128 * 1024;
/// How much of the disk stays free, for what hosts and operators have to say, in bytes.
const RESERVE: u64 = 512 * 1024 * 1024;

/// The folder of archives.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    folder: PathBuf,
}

/// Why an archive is not kept.
#[derive(Debug, Error)]
pub(crate) enum Unkept {
    /// It is not what it was said to be.
    #[error("an archive is not what its hash {0} says")]
    Other(Digest),
    /// The disk said no.
    #[error("an archive can't be kept: {0}")]
    Disk(#[from] io::Error),
    /// The hub's memory did.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An archive that is coming in.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    making: PathBuf,
    /// Where it goes.
    place: PathBuf,
    pub(crate) hash: Digest,
    /// How long it is unpacked.
    pub(crate) size: u64,
    kept: bool,
}

impl Objects {
    /// Opens the folder; what came in half is thrown away.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let making = folder.join("incoming");
        match fs::remove_dir_all(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&making)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where an archive is, as it is stored.
    pub(crate) fn place(&self, hash: &Digest) -> PathBuf {
        let name = hash.to_string();
        let (first, _) = name.split_at(2);
        self.folder.join(first).join(&name)
    }

    /// Removes an archive. One that can't be is only room.
    pub(crate) fn remove(&self, hash: &Digest) {
        let _ = fs::remove_file(self.place(hash));
    }

    /// Whether the disk has room for so many bytes more.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let free = rustix::fs::statvfs(&self.folder);
        let free = free.map_or(u64::MAX, |of| of.f_bavail.saturating_mul(of.f_frsize));
        free >= RESERVE.saturating_add(bytes)
    }

    /// Takes an archive in.
    pub(crate) fn incoming(&self, hash: Digest, size: u64) -> io::Result<Incoming> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let making = self.folder.join("incoming").join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&making)?;
        Ok(Incoming { file, making, place: self.place(&hash), hash, size, kept: false })
    }
}

impl Incoming {
    /// Looks whether it is what it was said to be, and has it on the disk; gives how long it is there. What it unpacks to is never
    /// longer than was said, whatever it claims.
    pub(crate) fn verify(&mut self) -> Result<u64, Unkept> {
        io::Seek::rewind(&mut self.file)?;
        let unpacked = zstd::stream::read::Decoder::new(&self.file)
            .map(|decoder| decoder.take(self.size.saturating_add(1)))?;
        let mut unpacked = BufReader::with_capacity(PIECE, unpacked);
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        let mut piece = vec![0; PIECE];
        loop {
            let read = unpacked.read(&mut piece).map_err(|_| Unkept::Other(self.hash))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hash.update(piece.get(..read).unwrap_or_default());
        }
        if size != self.size || Digest::from_bytes(hash.finalize().into()) != self.hash {
            return Err(Unkept::Other(self.hash));
        }
        self.file.sync_all()?;
        Ok(self.file.metadata()?.len())
    }

    /// Puts it where it belongs; it is on the disk when this returns. Where one of its hash is known already, it has to stay
    /// away: the same archive can be stored in more than one way, and what is known of it says how long it is.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        if let Some(folder) = self.place.parent() {
            fs::create_dir_all(folder)?;
            fs::rename(&self.making, &self.place)?;
            self.kept = true;
            File::open(folder)?.sync_all()?;
            if let Some(above) = folder.parent() {
                File::open(above)?.sync_all()?;
            }
        }
        Ok(())
    }
}

/// What is written is the archive as it is stored.
impl Write for Incoming {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.file.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.making);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    #[test]
    fn an_archive_is_kept_only_where_it_is_what_it_was_said_to_be() {
        let folder = std::env::temp_dir().join(format!("bosco-objects-{}", std::process::id()));
        let objects = Objects::open(&folder).unwrap();
        let archive = b"an archive".repeat(1000);
        let hash = Digest::of(&[&archive]);
        let size = archive.len() as u64;
        let put = |hash: Digest, size: u64, stored: &[u8]| {
            let mut incoming = objects.incoming(hash, size).unwrap();
            incoming.write_all(stored).unwrap();
            incoming.verify()?;
            incoming.keep().map_err(Unkept::from)
        };
        let whole = packed(&archive);
        assert!(put(Digest::of(&[b"another"]), size, &whole).is_err(), "another hash");
        assert!(put(hash, size - 1, &whole).is_err(), "longer than was said");
        assert!(put(hash, size + 1, &whole).is_err(), "shorter than was said");
        assert!(put(hash, size, &whole[..whole.len() / 2]).is_err(), "cut off");
        assert!(put(hash, size, b"no zstd at all").is_err());
        // A bomb: a gigabyte of nothing in some kilobytes.
        assert!(put(hash, size, &packed(&vec![0; 64 << 20])).is_err());
        assert!(!objects.place(&hash).exists(), "none of these was kept");
        put(hash, size, &whole).unwrap();
        let mut back = Vec::new();
        File::open(objects.place(&hash)).unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back, whole);
        assert_eq!(fs::read_dir(folder.join("incoming")).unwrap().count(), 0, "nothing half is left");
        fs::remove_dir_all(&folder).unwrap();
    }
}

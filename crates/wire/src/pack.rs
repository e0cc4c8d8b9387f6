//! Archives (NARs) in a row, compressed: how closures go to a hub and from it.
//!
//! Each is a head of 48 bytes, the archive's SHA-256, its size, and the size of what follows, numbers of eight bytes with the
//! little end first; then the archive, compressed by zstd. A stream ends between two archives.

use bosco_release::Digest;

/// How long a head is, in bytes.
pub const HEAD: usize = 48;

/// What stands before an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// SHA-256 of the archive.
    pub hash: Digest,
    /// How long the archive is, in bytes.
    pub size: u64,
    /// How long it is as it is sent, in bytes.
    pub stored: u64,
}

impl Head {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let parts = self.hash.as_bytes().iter().copied().chain(self.size.to_le_bytes());
        for (byte, of) in bytes.iter_mut().zip(parts.chain(self.stored.to_le_bytes())) {
            *byte = of;
        }
        bytes
    }

    /// Reads it. What it says is to be checked against what was asked for.
    #[must_use]
    pub fn read(bytes: &[u8; HEAD]) -> Self {
        let (hash, rest) = bytes.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        let (size, stored) = rest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let stored = stored.first_chunk::<8>().unwrap_or(&[0; 8]);
        Self {
            hash: Digest::from_bytes(*hash),
            size: u64::from_le_bytes(*size),
            stored: u64::from_le_bytes(*stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written(hash: [u8; 32], size: u64, stored: u64) {
            let head = Head { hash: Digest::from_bytes(hash), size, stored };
            prop_assert_eq!(Head::read(&head.to_bytes()), head);
        }
    }
}

//! An archive on its way: unpacked, measured and hashed as it comes. It never gives more than was signed, nor takes more than
//! that can have been packed into. Pure but for zstd.

use std::time::Duration;

use bosco_release::Digest;
use bosco_wire::pack::Head;
use bytes::{Buf, Bytes};
use sha2::{Digest as _, Sha256};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// How much is unpacked at once, in bytes.
const CHUNK: usize = 128 * 1024;
/// How far back what is packed may look, as a power of two: what the agent has to have in memory for it.
const WINDOW: u32 = 25;
/// How many bytes have to come in that time.
const LEAST: u64 = 60_000;

/// An archive on its way.
pub(crate) struct Unpacker {
    decoder: Decoder<'static>,
    hash: Sha256,
    wanted: Digest,
    /// How much of it is to come, as it is sent.
    stored: u64,
    /// How much of it is to come, unpacked.
    size: u64,
    /// Whether zstd has come to the end of what was packed.
    ended: bool,
    /// Whether it may hold more than it has given.
    holds: bool,
    chunk: Vec<u8>,
}

/// What has come of a piece.
#[derive(Debug)]
pub(crate) enum Unpacked<'a> {
    /// Some of the archive; there may be more in the piece.
    More(&'a [u8]),
    /// The piece is used up.
    Hungry,
}

impl Unpacker {
    /// Begins with an archive. Its head has been compared with what was signed, but for the size that it is sent with.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn new(head: &Head) -> Result<Self, String> {
        // zstd makes nothing longer than this (`ZSTD_COMPRESSBOUND`), however little it finds, in however small steps.
        let longest = head.size.saturating_add(head.size / 64).saturating_add(64 * 1024);
        if head.stored > longest {
            return Err(format!("{} bytes for an archive of {}", head.stored, head.size));
        }
        let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).map_err(|error| error.to_string())?;
        Ok(Self {
            decoder,
            hash: Sha256::new(),
            wanted: head.hash,
            stored: head.stored,
            size: head.size,
            ended: false,
            holds: false,
            chunk: vec![0; CHUNK],
        })
    }

    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.stored
    }

    /// Unpacks some of a piece, which has at most as many bytes as are [left](Self::left).
    ///
    /// # Errors
    /// In words: it is not what was signed.
    pub(crate) fn unpack(&mut self, piece: &mut Bytes) -> Result<Unpacked<'_>, String> {
        if !piece.has_remaining() && !self.holds {
            return Ok(Unpacked::Hungry);
        }
        if self.ended {
            return if piece.has_remaining() {
                Err("something behind its end".into())
            } else {
                Ok(Unpacked::Hungry)
            };
        }
        let mut input = InBuffer::around(piece);
        let mut output = OutBuffer::around(self.chunk.as_mut_slice());
        let hint = self.decoder.run(&mut input, &mut output).map_err(|error| error.to_string())?;
        let (read, written) = (input.pos(), output.pos());
        piece.advance(read);
        self.stored = self.stored.saturating_sub(read as u64);
        self.ended = hint == 0;
        self.holds = written == CHUNK;
        let bytes = &self.chunk[..written];
        self.size = self.size.checked_sub(written as u64).ok_or("more than was signed")?;
        self.hash.update(bytes);
        if written == 0 && read == 0 && piece.has_remaining() {
            return Err("what can't be unpacked".into());
        }
        Ok(Unpacked::More(bytes))
    }

    /// Whether all of it has come, and nothing else.
    ///
    /// # Errors
    /// In words: it is not what was signed.
    pub(crate) fn end(self) -> Result<(), String> {
        if !self.ended || self.size > 0 {
            return Err("less than was signed".into());
        }
        if Digest::from_bytes(self.hash.finalize().into()) != self.wanted {
            return Err("other contents than were signed".into());
        }
        Ok(())
    }
}

/// How fast something comes: only the time that was waited for it counts.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How long it is counted what comes.
    span: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(crate) fn over(span: Duration) -> Self {
        Self { span, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long to wait at most for what comes next.
    pub(crate) fn left(&self) -> Duration {
        self.span.saturating_sub(self.waited).max(Duration::from_millis(1))
    }

    /// So many bytes have come after so long. Whether that is enough.
    pub(crate) fn came(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.span {
            return true;
        }
        let is_enough = self.bytes >= LEAST;
        *self = Self::over(self.span);
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(archive: &[u8]) -> (Head, Vec<u8>) {
        let packed = zstd::stream::encode_all(archive, 3).unwrap();
        let (size, stored) = (archive.len() as u64, packed.len() as u64);
        (Head { hash: Digest::of(&[archive]), size, stored }, packed)
    }

    /// What comes of a stream that is given in pieces of some size.
    fn unpack(head: &Head, stream: &[u8], step: usize) -> Result<Vec<u8>, String> {
        let mut unpacker = Unpacker::new(head)?;
        let mut came = Vec::new();
        let mut stream = Bytes::copy_from_slice(stream);
        while unpacker.left() > 0 && stream.has_remaining() {
            let most = usize::try_from(unpacker.left()).unwrap().min(step).min(stream.len());
            let mut piece = stream.split_to(most);
            while let Unpacked::More(bytes) = unpacker.unpack(&mut piece)? {
                came.extend_from_slice(bytes);
                assert!(came.len() as u64 <= head.size, "more than was signed was passed on");
            }
        }
        unpacker.end().map(|()| came)
    }

    fn archives() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..5000),
            (any::<u8>(), 0_usize..600_000).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_was_packed_is_unpacked_whatever_the_pieces(archive in archives(), step in 1_usize..70_000) {
            let (head, packed) = pack(&archive);
            prop_assert_eq!(unpack(&head, &packed, step.max(packed.len() / 500)), Ok(archive));
        }

        #[test]
        fn what_is_not_what_was_signed_is_refused(
            archive in archives(), other in archives(), step in 1000_usize..70_000, cut in 1_usize..100, at: prop::sample::Index,
        ) {
            prop_assume!(archive != other);
            let (head, packed) = pack(&archive);
            let (lie, packed_other) = pack(&other);
            prop_assert!(unpack(&Head { stored: lie.stored, ..head }, &packed_other, step).is_err(), "another archive");
            let cut = packed.len().saturating_sub(cut);
            prop_assert!(unpack(&head, &packed[..cut], step).is_err(), "cut short");
            prop_assert!(unpack(&Head { stored: cut as u64, ..head }, &packed[..cut], step).is_err(), "and said so");
            prop_assert!(unpack(&Head { size: head.size + 1, ..head }, &packed, step).is_err(), "too short");
            let longer = [packed.as_slice(), b"x"].concat();
            prop_assert!(unpack(&Head { stored: head.stored + 1, ..head }, &longer, step).is_err(), "too long");
            let mut flipped = packed;
            let at = at.index(flipped.len());
            flipped[at] ^= 1;
            // Where zstd does not mind, it is the same archive.
            prop_assert!(unpack(&head, &flipped, step).map_or(true, |came| came == archive));
        }
    }

    #[test]
    fn a_little_that_unpacks_to_very_much_is_cut_off() {
        let (bomb, packed) = pack(&vec![0; 50_000_000]);
        let head = Head { size: 1000, ..bomb };
        assert_eq!(unpack(&head, &packed, 10_000), Err("more than was signed".into()));
    }

    #[test]
    fn nobody_sends_more_than_can_have_been_packed() {
        let (head, _) = pack(b"little");
        assert!(Unpacker::new(&Head { stored: 1 << 40, ..head }).is_err());
    }

    #[test]
    fn who_sends_next_to_nothing_is_given_up_on() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::over(second * 60);
        assert!((0..59).all(|_| pace.came(second, 1)));
        assert!(pace.left() <= second);
        assert!(!pace.came(second, 1), "a byte a second");
        let mut pace = Pace::over(second * 60);
        assert!((0..600).all(|_| pace.came(second, 2000)));
        let mut pace = Pace::over(second * 60);
        assert!((0..10_000).all(|_| pace.came(Duration::ZERO, 1)), "it comes at once");
    }
}

//! The words of `nix-store --serve`: numbers of eight bytes, little end first; texts and lists behind their length, texts
//! padded to eight bytes. Pure but for the stream that is read.
//!
//! The source is Nix's `serve-protocol.hh` and `opServe` in `nix-store.cc`; all versions since 2.4 speak 2.5 of it or
//! newer, and Lix does.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a client says first.
const CLIENT: u64 = 0x390c_9deb;
/// What a server says first.
const SERVER: u64 = 0x5452_eecb;
/// The version that is spoken, 2.5: the first one in which a path comes with its hash and signatures.
const VERSION: u64 = 0x205;
/// How many bytes a server says first.
pub(crate) const HELLO: u64 = 16;
/// How many bytes a server says of each path that it has taken.
pub(crate) const TAKEN: u64 = 8;
/// The longest text that is read, in bytes.
const MAX_TEXT: u64 = 64 * 1024;
/// The longest list that is read.
const MAX_LIST: u64 = 1_000_000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    /// Which paths are there.
    QueryValidPaths = 1,
    /// What is known of paths.
    QueryPathInfos = 2,
    /// The contents of a path.
    DumpStorePath = 3,
    /// All that some paths need.
    QueryClosure = 7,
    /// Here is a path.
    AddToStoreNar = 9,
}

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    /// What a client begins with.
    pub(crate) fn hello() -> Self {
        Self::default().number(CLIENT).number(VERSION)
    }

    /// What ends a server that is to leave its input open: a command that none knows.
    pub(crate) fn end() -> Self {
        Self::default().number(0)
    }

    pub(crate) fn verb(self, verb: Verb) -> Self {
        self.number(verb as u64)
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let mut message = self.number(text.len() as u64);
        message.0.extend_from_slice(text.as_bytes());
        message.0.resize(message.0.len().next_multiple_of(8), 0);
        message
    }

    pub(crate) fn texts<'a>(self, texts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let message = self.number(texts.len() as u64);
        texts.fold(message, Self::text)
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads what a server begins with.
pub(crate) async fn hello(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    if number(stream).await? != SERVER {
        return Err(invalid("it does not speak the serve protocol"));
    }
    let version = number(stream).await?;
    if version >> 8 != VERSION >> 8 || version < VERSION {
        return Err(invalid(format!("it speaks {}.{} of the serve protocol", version >> 8, version & 0xff)));
    }
    Ok(())
}

pub(crate) async fn number(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    stream.read_u64_le().await
}

pub(crate) async fn text(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let length = number(stream).await?;
    if length > MAX_TEXT {
        return Err(invalid(format!("a text of {length} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length.next_multiple_of(8)).map_err(|_| invalid("a text"))?];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(usize::try_from(length).map_err(|_| invalid("a text"))?);
    String::from_utf8(bytes).map_err(|_| invalid("a text that is not UTF-8"))
}

pub(crate) async fn texts(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<String>> {
    let length = number(stream).await?;
    if length > MAX_LIST {
        return Err(invalid(format!("a list of {length} texts")));
    }
    let mut texts = Vec::new();
    for _ in 0..length {
        texts.push(text(stream).await?);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn texts_are_padded_to_eight_bytes() {
        let message = Message::default().text("a").text("12345678");
        assert_eq!(message.0, *b"\x01\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\x0012345678");
    }

    #[test]
    fn a_server_that_is_too_old_or_none_at_all_is_told() {
        let said = |magic, version| {
            let bytes = Message::default().number(magic).number(version).0;
            block_on(hello(&mut bytes.as_slice())).map_err(|error| error.to_string())
        };
        assert_eq!(said(SERVER, 0x207), Ok(()));
        assert_eq!(said(SERVER, 0x202), Err("it speaks 2.2 of the serve protocol".into()));
        assert!(said(SERVER, 0x300).is_err() && said(CLIENT, 0x207).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(list in prop::collection::vec(any::<String>(), 0..8), last in any::<u64>()) {
            let bytes = Message::default().texts(list.iter().map(String::as_str)).number(last).0;
            let mut stream = bytes.as_slice();
            prop_assert_eq!(block_on(texts(&mut stream)).unwrap(), list);
            prop_assert_eq!(block_on(number(&mut stream)).unwrap(), last);
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in any::<Vec<u8>>()) {
            let _ = block_on(texts(&mut bytes.as_slice()));
            let _ = block_on(hello(&mut bytes.as_slice()));
        }
    }
}

//! Why a file of sops can't be opened.

use std::fmt::Display;

use thiserror::Error;

use super::tree::MAX_KEY;
use super::{Format, MAX_FILE};

/// Why a file of sops can't be read or opened. None of these shows a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// More than [`MAX_FILE`].
    #[error("it has {0} bytes, and at most {MAX_FILE} are read")]
    TooLarge(usize),
    /// Deeper than anybody's secrets.
    #[error("it is nested too deep")]
    TooDeep,
    /// More than anybody's secrets.
    #[error("it has too many values")]
    TooManyValues,
    /// Longer than anybody's secrets.
    #[error(
        "one of its keys has more than {MAX_KEY} bytes, or the keys on the way to its values are too many"
    )]
    LongKeys,
    /// It is not of its form.
    #[error("it is not {format}: {why}")]
    Syntax {
        /// The form that it should have.
        format: Format,
        /// What is wrong, and where.
        why: String,
    },
    /// Its values have no keys.
    #[error("it is {0}, but not a map of keys and values")]
    NotAMap(Format),
    /// One key has two values.
    #[error("the key `{0}` is there twice")]
    Twice(String),
    /// Something that sops never writes, or hardly ever.
    #[error("it has {0}")]
    Unsupported(String),
    /// No metadata of sops.
    #[error("it is not encrypted by sops; encrypt it with `sops --encrypt --in-place FILE`")]
    NotSops,
    /// Metadata that make no sense.
    #[error("what sops wrote down in it can't be read: {0}")]
    Metadata(String),
    /// Nobody has put his seal on it.
    #[error("it has no MAC, so anybody could have changed it; encrypt it anew with sops")]
    NoMac,
    /// It was changed after sops wrote it.
    #[error(
        "its MAC is not that of its values: it was changed without sops; take it back from git, or encrypt it anew"
    )]
    WrongMac,
    /// Others could open it.
    #[error(
        "it is encrypted to {recipients}, and {ours}; add a key with `sops rotate --in-place --add-age RECIPIENT FILE`"
    )]
    NotForUs {
        /// To whom it is encrypted.
        recipients: String,
        /// What was tried, as half a sentence.
        ours: String,
    },
    /// Only several together could.
    #[error("{0} of its key groups have to open it together, which bosco does not do; they are {1}")]
    KeyGroups(u64, String),
    /// What was encrypted to us is not a data key.
    #[error("its data key is damaged: {0}")]
    DataKey(String),
    /// A value can't be decrypted.
    #[error("`{path}` can't be decrypted: {why}")]
    Value {
        /// The keys on the way to it.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// There is no such value.
    #[error("it has no `{0}`")]
    NoKey(String),
    /// There is one, but it has parts or is empty.
    #[error("`{0}` is not one value")]
    NotOneValue(String),
    /// A binary value in a form of text.
    #[error("one of its values is not UTF-8, so it can't be written as {0}")]
    NotUtf8(Format),
}

impl Error {
    pub(super) fn syntax(format: Format, why: &dyn Display) -> Self {
        Self::Syntax { format, why: super::shown(&why.to_string()) }
    }
}

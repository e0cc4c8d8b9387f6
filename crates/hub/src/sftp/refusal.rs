//! Why a host does not get what it asked for, and how SFTP says so.
//!
//! Version 3 of the protocol has few codes. Go's library, with which `restic` and `rclone` speak, shows the message of a
//! failure only, and has words of its own for what is missing or denied; OpenSSH's `sftp` shows its own words for all.

use russh_sftp::protocol::{Packet, StatusCode};
use rustix::io::Errno;

use super::path::Area;

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such file.
    Missing,
    /// It is not the host's to do, for this reason.
    Denied(&'static str),
    /// A quota is used up.
    Full(Full),
    /// It can't be done, for this reason.
    Failed(String),
    /// Nothing more is to be read; no error.
    End,
    /// What no part of this server does.
    Unsupported,
    /// The request can't be read.
    Malformed,
}

/// A quota that would be overrun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// Whose quota it is.
    pub(crate) area: Area,
    /// Which of its two limits, and where it is.
    pub(crate) limit: Limit,
}

/// One limit of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// So many bytes.
    Bytes(u64),
    /// So many files and folders.
    Files(u64),
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::LOOP | Errno::XDEV | Errno::NXIO => Self::Failed(NEITHER.into()),
            Errno::EXIST => Self::Failed("there is something of that name already".into()),
            Errno::NOTEMPTY => Self::Failed("the folder is not empty".into()),
            Errno::NOTDIR => Self::Failed("it is not a folder".into()),
            Errno::ISDIR => Self::Failed("it is a folder".into()),
            Errno::INVAL => Self::Failed("that can't be done".into()),
            Errno::NOSPC | Errno::DQUOT => Self::Failed("no space: the hub's disk is full".into()),
            Errno::ACCESS | Errno::PERM => Self::Denied("the hub may not do that itself"),
            // The number alone: what went wrong on the hub's disk is for its own log, not for a host.
            errno => Self::Failed(format!("the hub's disk says error {}", errno.raw_os_error())),
        }
    }
}

/// What is said of links, pipes, devices and mounts, which are there for nobody.
pub(crate) const NEITHER: &str = "it is neither a file nor a folder";

impl Refusal {
    /// The answer to the request with this number.
    pub(crate) fn packet(&self, id: u32) -> Packet {
        let (code, message) = match self {
            Self::Missing => (StatusCode::NoSuchFile, "there is no such file".to_owned()),
            Self::Denied(why) => (StatusCode::PermissionDenied, (*why).to_owned()),
            Self::Full(full) => (StatusCode::Failure, full.message()),
            Self::Failed(why) => (StatusCode::Failure, why.clone()),
            Self::End => (StatusCode::Eof, "the end".to_owned()),
            Self::Unsupported => (StatusCode::OpUnsupported, "this server does not do that".to_owned()),
            Self::Malformed => (StatusCode::BadMessage, "the request can't be read".to_owned()),
        };
        Packet::status(id, code, &message, "en")
    }
}

impl Full {
    fn message(self) -> String {
        let area = self.area.name();
        match self.limit {
            Limit::Bytes(bytes) => format!("no space: the {area} quota of {} is used up", size(bytes)),
            Limit::Files(files) => format!("no space: the {area} quota of {files} files is used up"),
        }
    }
}

/// A number of bytes as quotas are written: in the largest decimal unit of which there is one, with a digit behind it
/// where it is not whole.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} bytes");
    };
    match (bytes / unit, bytes % unit / (unit / 10)) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_quota_says_which_and_how_much() {
        let full = |limit| Full { area: Area::Backup, limit }.message();
        assert_eq!(full(Limit::Bytes(50_000_000_000)), "no space: the backup quota of 50 GB is used up");
        assert_eq!(full(Limit::Files(1000)), "no space: the backup quota of 1000 files is used up");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_500_000), "1.5 MB");
        assert_eq!(size(2_000_000_000_000), "2 TB");
    }
}

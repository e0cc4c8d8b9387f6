//! Files of sops: <https://github.com/getsops/sops>.

mod format;

pub use format::Format;

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 4 << 20;

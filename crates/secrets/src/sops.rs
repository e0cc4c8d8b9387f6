//! Files of sops (<https://github.com/getsops/sops>): read whole or not at all, and never written.
//!
//! Its MAC is over all values in the order of the file; one that has none, or another one, is refused. Comments are no part
//! of it, so those of YAML are dropped; those of dotenv and ini are decrypted where they can be.

mod cipher;
mod dotenv;
mod error;
mod file;
mod format;
mod ini;
mod json;
mod metadata;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

pub use error::Error;
pub use file::{File, MAX_FILE, MasterKey, Opened};
pub use format::Format;

/// A file as sops makes it, for tests of what is done with one.
#[cfg(test)]
pub(crate) use tests::sample;

/// As much of a text of a file as is shown, in one line.
fn shown(text: &str) -> String {
    bosco_model::shown(text, 120)
}

//! A folder that a host lists, some names at a time.

use std::ffi::CStr;
use std::fmt;

use russh_sftp::protocol::File;
use rustix::fs::Dir;

use super::disk::{self, Folder, Kind, is_itself};
use super::path::Area;
use super::refusal::Refusal;
use super::rules::is_log;
use super::session::{Answer, Handle, Session};

/// How many names go into one answer: with the longest ones, and each there twice, it is far below what a packet holds.
const BATCH: usize = 100;

/// A folder that is being listed.
pub(crate) enum Listing {
    /// The folder of the areas, until it was told.
    Top(Vec<File>),
    /// A folder of an area.
    Inside { area: Area, at_area: bool, folder: Folder, entries: Dir },
}

impl fmt::Debug for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listing").finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a folder to list it.
    pub(super) fn open_folder(&mut self, path: &str) -> Result<Answer, Refusal> {
        self.room()?;
        let listing = match self.look(path)? {
            None => {
                // An area that can't be opened is not there; the others are.
                let top = |area: Area| {
                    let stat = self.root.area(area).and_then(|folder| folder.stat(&[])).ok()?;
                    Some(File::new(area.name(), disk::attributes(&stat)))
                };
                Listing::Top(Area::ALL.into_iter().filter_map(top).collect())
            }
            Some((area, folder, names)) => {
                let folder = folder.folder(&names)?;
                Listing::Inside { area, at_area: names.is_empty(), entries: folder.entries()?, folder }
            }
        };
        Ok(self.keep(Handle::Listing(listing)))
    }
}

impl Listing {
    /// The next names, with what they are.
    pub(super) fn next_batch(&mut self) -> Result<Vec<File>, Refusal> {
        let batch = match self {
            Self::Top(files) => std::mem::take(files),
            Self::Inside { area, at_area, folder, entries } => {
                let mut batch = Vec::new();
                while batch.len() < BATCH {
                    let Some(entry) = entries.read() else { break };
                    let hidden = |name: &str| *area == Area::Logs && *at_area && !is_log(name);
                    if let Some(file) = file(folder, entry?.file_name(), hidden) {
                        batch.push(file);
                    }
                }
                batch
            }
        };
        if batch.is_empty() { Err(Refusal::End) } else { Ok(batch) }
    }
}

/// A name as it is listed: only what its host could open too.
fn file(folder: &Folder, name: &CStr, hidden: impl Fn(&str) -> bool) -> Option<File> {
    let text = name.to_str().ok()?;
    if is_itself(name) || text.contains(char::REPLACEMENT_CHARACTER) || hidden(text) {
        return None;
    }
    let stat = folder.stat_entry(name).ok()?;
    (disk::kind(&stat) != Kind::Other).then(|| File::new(text, disk::attributes(&stat)))
}

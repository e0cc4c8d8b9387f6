//! Tells when the host's journal changes: somebody may have pushed to it.

use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// What stands before the name of a file in what the kernel tells: which watch, what happened, what belongs together, and how
/// long the name is, four bytes each (inotify(7)).
const HEAD: usize = 16;

/// Looks at one file of a folder, which is replaced as a whole with each change.
pub(crate) struct Watch {
    /// It is read as a pipe is.
    events: Receiver,
    name: Vec<u8>,
}

impl Watch {
    /// `None` where that can't be watched: it is looked at now and then all the same.
    pub(crate) fn new(file: &Path) -> Option<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        inotify::add_watch(&events, file.parent()?, WatchFlags::MOVED_TO).ok()?;
        let name = file.file_name()?.as_encoded_bytes().to_vec();
        Some(Self { events: Receiver::from_owned_fd_unchecked(events).ok()?, name })
    }

    /// Waits until the file has changed.
    pub(crate) async fn changed(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let Ok(read @ 1..) = self.events.read(&mut buffer).await else {
                return std::future::pending().await;
            };
            if names(buffer.get(..read).unwrap_or_default()).any(|name| name == self.name) {
                return;
            }
        }
    }
}

/// The names in what the kernel tells.
fn names(mut events: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = events.split_first_chunk::<HEAD>()?;
        let length = u32::from_ne_bytes(*head.last_chunk()?) as usize;
        let (name, rest) = rest.split_at_checked(length)?;
        events = rest;
        // It is filled up with zeros.
        name.split(|byte| *byte == 0).next()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::testing::TempDir;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed_and_others_beside_it_are_not() {
        let dir = TempDir::new();
        let file = dir.path().join("journal.json");
        let mut watch = Watch::new(&file).unwrap();
        let replace = |name: &str| {
            fs::write(dir.path().join("new"), "x").unwrap();
            fs::rename(dir.path().join("new"), dir.path().join(name)).unwrap();
        };
        replace("pull.json");
        assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err());
        replace("journal.json");
        timeout(Duration::from_secs(10), watch.changed()).await.expect("it has changed");
    }
}

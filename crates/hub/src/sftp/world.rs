//! A host's world on the hub: its folder, its limits, and the books that all of its sessions share.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bosco_model::HostName;
use rustix::io::Errno;

use super::account::{Account, Quota};
use super::disk::Folder;
use super::path::Area;
use super::refusal::Refusal;

/// How long a count of the disk is believed where it would refuse something: an operator may have made room by hand.
const RECOUNT: Duration = Duration::from_secs(60);

/// What a host may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For `/backup`.
    pub backup: Quota,
    /// For `/logs`.
    pub logs: Quota,
}

/// The worlds of all hosts, each there once: two that count the same folder would both give away what is left of it.
#[derive(Debug)]
pub struct Worlds {
    folder: PathBuf,
    worlds: Mutex<HashMap<HostName, Arc<World>>>,
}

impl Worlds {
    /// The worlds below a folder, each in one of its host's name. Nothing is read or made yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, worlds: Mutex::default() }
    }

    /// The world of a host, with these limits from now on, also for its sessions that are under way.
    ///
    /// It stays in memory, some hundred bytes, so that the disk is not counted again for each session: ask only for hosts
    /// of the fleet.
    #[must_use]
    pub fn of(&self, host: &HostName, limits: Limits) -> Arc<World> {
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        let world = worlds
            .entry(host.clone())
            .or_insert_with(|| Arc::new(World::new(self.folder.join(host.as_str()), limits)));
        *world.limits() = limits;
        Arc::clone(world)
    }
}

/// What one host has on the hub. Its files are counted once, at the first use; then the books are kept in here.
#[derive(Debug)]
pub struct World {
    root: PathBuf,
    /// Apart from the books, whose lock may be held for long.
    limits: Mutex<Limits>,
    backup: Mutex<Books>,
    logs: Mutex<Books>,
    halves: AtomicU64,
    recount: Duration,
}

/// The books of one area, once it was counted, and when. Whoever changes anything in it holds their lock meanwhile, so
/// nothing comes between what was asked, done and booked.
type Books = Option<(Account, Instant)>;

impl World {
    fn new(root: PathBuf, limits: Limits) -> Self {
        Self {
            root,
            limits: Mutex::new(limits),
            backup: Mutex::default(),
            logs: Mutex::default(),
            halves: AtomicU64::new(0),
            recount: RECOUNT,
        }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quota(&self, area: Area) -> Quota {
        let limits = self.limits();
        if area == Area::Logs { limits.logs } else { limits.backup }
    }

    /// Opens its folder, and makes what of it is not there.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn enter(&self) -> io::Result<Folder> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        let folder = Folder::world(&self.root)?;
        folder.make_areas()?;
        Ok(folder)
    }

    /// A number that no other half of a log has.
    pub(crate) fn next_half(&self) -> u64 {
        self.halves.fetch_add(1, Ordering::Relaxed)
    }

    /// The books of an area; `config` has none, and shares those of `backup` so that this can't fail.
    fn books(&self, area: Area) -> MutexGuard<'_, Books> {
        let books = if area == Area::Logs { &self.logs } else { &self.backup };
        books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that its books allow, with nobody else in between. It may be done twice where the first time was
    /// refused for want of room: it must have changed nothing then.
    ///
    /// # Errors
    /// What `act` says, and the disk's where it can't be counted.
    pub(crate) fn booked<T>(
        &self,
        area: Area,
        folder: &Folder,
        mut act: impl FnMut(&mut Account) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut books = self.books(area);
        let quota = self.quota(area);
        if books.is_none() {
            if area == Area::Logs {
                // Nobody has half a log before the first count: these are of a hub that was cut short.
                folder.remove_halves()?;
            }
            *books = Some((Account::new(area, quota, folder.usage()?), Instant::now()));
        }
        let (account, counted) = books.as_mut().ok_or(Errno::IO)?;
        account.set_quota(quota);
        let done = act(account);
        if !matches!(done, Err(Refusal::Full(_))) || counted.elapsed() < self.recount {
            return done;
        }
        account.recount(folder.usage()?);
        *counted = Instant::now();
        act(account)
    }

    /// Books what has been done and needs no leave.
    pub(crate) fn settle(&self, area: Area, book: impl FnOnce(&mut Account)) {
        if let Some((account, _)) = &mut *self.books(area) {
            book(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn room_that_was_made_by_hand_is_found_where_something_would_be_refused() {
        let dir = std::env::temp_dir().join(format!("bosco-world-{}", std::process::id()));
        let quota = Quota { bytes: 100, files: 10 };
        let mut world = World::new(dir.clone(), Limits { backup: quota, logs: quota });
        let folder = world.enter().unwrap().area(Area::Backup).unwrap();
        let file = dir.join("backup/file");
        fs::write(&file, [0; 100]).unwrap();
        let grow = |world: &World| {
            world.booked(Area::Backup, &folder, |account| Ok(account.may_grow(0, 1)?)).is_ok()
        };
        assert!(!grow(&world));
        fs::remove_file(&file).unwrap();
        assert!(!grow(&world), "it is not counted again for every request");
        world.recount = Duration::ZERO;
        assert!(grow(&world));
        fs::remove_dir_all(dir).unwrap();
    }
}

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
        world.set_limits(limits);
        Arc::clone(world)
    }
}

/// What one host has on the hub. Its files are counted once, at the first use; then the books are kept in here.
#[derive(Debug)]
pub struct World {
    root: PathBuf,
    backup: Mutex<Books>,
    logs: Mutex<Books>,
    halves: AtomicU64,
}

/// The books of one area. Whoever changes anything in it holds their lock meanwhile, so nothing comes between what was
/// asked, done and booked.
#[derive(Debug)]
pub(crate) struct Books {
    quota: Quota,
    counted: Option<(Account, Instant)>,
}

impl World {
    fn new(root: PathBuf, limits: Limits) -> Self {
        let books = |quota| Mutex::new(Books { quota, counted: None });
        Self { root, backup: books(limits.backup), logs: books(limits.logs), halves: AtomicU64::new(0) }
    }

    fn set_limits(&self, limits: Limits) {
        for (area, quota) in [(Area::Backup, limits.backup), (Area::Logs, limits.logs)] {
            let mut books = self.books(area);
            books.quota = quota;
            if let Some((account, _)) = &mut books.counted {
                account.set_quota(quota);
            }
        }
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
        let (account, counted) = books.counted(area, folder)?;
        let done = act(account);
        if !matches!(done, Err(Refusal::Full(_))) || counted.elapsed() < RECOUNT {
            return done;
        }
        account.recount(folder.usage()?);
        *counted = Instant::now();
        act(account)
    }

    /// Books what has been done and needs no leave.
    pub(crate) fn settle(&self, area: Area, book: impl FnOnce(&mut Account)) {
        if let Some((account, _)) = &mut self.books(area).counted {
            book(account);
        }
    }
}

impl Books {
    fn counted(&mut self, area: Area, folder: &Folder) -> Result<&mut (Account, Instant), Errno> {
        if self.counted.is_none() {
            if area == Area::Logs {
                // Nobody has half a log before the first count: these are of a hub that was cut short.
                folder.remove_halves()?;
            }
            self.counted = Some((Account::new(area, self.quota, folder.usage()?), Instant::now()));
        }
        self.counted.as_mut().ok_or(Errno::IO)
    }
}

//! The journal on the disk, its lock, and which boot this is.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bosco_activation::{Journal, Unread};
use rustix::fs::{FlockOperation, flock};

use crate::durable;
use crate::places::Places;

/// The longest journal that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// How many logs are kept.
const LOGS: usize = 20;
/// How long those who only look whether the lock is held may be in the way of who takes it.
const LOOK: Duration = Duration::from_secs(1);

/// Where a host keeps its journal.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    places: Places,
}

/// Held by who carries an activation out, or keeps others from switching. It goes with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Memory {
    /// The memory of a host.
    #[must_use]
    pub(crate) fn new(places: Places) -> Self {
        Self { places }
    }

    fn file(&self) -> PathBuf {
        self.places.journal()
    }

    /// What the host remembers. Of a journal that another version of bosco has written, what can be understood.
    ///
    /// # Errors
    /// In words, where the disk does not give it.
    pub(crate) fn load(&self) -> Result<Journal, String> {
        self.read().map(|(journal, _)| journal)
    }

    /// The same, for who holds the lock and is about to write: what could not be understood of the journal is set aside.
    ///
    /// # Errors
    /// The same; and where an attempt has not ended that can't be understood.
    pub(crate) fn load_to_write(&self) -> Result<Journal, String> {
        let (journal, unread) = self.read()?;
        match unread {
            Unread::Nothing => {}
            Unread::Something => {
                let file = self.file();
                fs::copy(&file, file.with_extension("unreadable"))
                    .map_err(|error| format!("can't set {} aside: {error}", file.display()))?;
            }
            Unread::OpenAttempt => {
                return Err(format!(
                    "an activation by another version of bosco has not ended there; \
                     {}/helper/bin/bosco local resume takes it up",
                    self.places.gcroots().display()
                ));
            }
        }
        Ok(journal)
    }

    fn read(&self) -> Result<(Journal, Unread), String> {
        let file = self.file();
        match fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Journal::default(), Unread::Nothing));
            }
            Err(error) => return Err(format!("can't read {}: {error}", file.display())),
            Ok(metadata) if metadata.len() > LONGEST => return Ok((Journal::default(), Unread::Something)),
            Ok(_) => {}
        }
        let text = fs::read(&file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
        // What is no JSON was not written by any bosco.
        Ok(Journal::read(&text).unwrap_or((Journal::default(), Unread::Something)))
    }

    /// Writes down what is to be remembered, on one line; it is on the disk when this returns.
    ///
    /// # Errors
    /// In words; what was remembered before still is.
    pub(crate) fn save(&self, journal: &Journal) -> Result<(), String> {
        let text =
            serde_json::to_vec(journal).map_err(|error| format!("the journal can't be written: {error}"))?;
        durable::write(&self.file(), &text)
    }

    /// Makes the folders that are written to.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn prepare(&self) -> Result<(), String> {
        // What programs have said, and who asked for what, is root's to read.
        for (folder, mode) in
            [(self.places.state(), 0o700), (self.places.run(), 0o700), (self.places.gcroots(), 0o755)]
        {
            make(&folder, mode)?;
        }
        Ok(())
    }

    /// Takes the lock; `None` where another has it, and `wait` is not asked for.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn lock(&self, wait: bool) -> Result<Option<Lock>, String> {
        if wait {
            return self.flock(FlockOperation::LockExclusive);
        }
        // Who only looks has it for a moment.
        let until = Instant::now() + LOOK;
        loop {
            let lock = self.flock(FlockOperation::NonBlockingLockExclusive)?;
            if lock.is_some() || Instant::now() >= until {
                return Ok(lock);
            }
            thread::sleep(LOOK / 20);
        }
    }

    /// Whether somebody has the lock. Any number may look at once.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn is_locked(&self) -> Result<bool, String> {
        if !self.places.run().join("lock").exists() {
            return Ok(false);
        }
        Ok(self.flock(FlockOperation::NonBlockingLockShared)?.is_none())
    }

    fn flock(&self, how: FlockOperation) -> Result<Option<Lock>, String> {
        // A boot has taken the folder away.
        let folder = self.places.run();
        let path = folder.join("lock");
        make(&folder, 0o700)?;
        lock(&path, how)
    }
}

/// Keeps every `switch-to-configuration` from beginning, as one does itself; `None` where one is at work.
///
/// # Errors
/// In words.
pub(crate) fn lock_switches(places: &Places) -> Result<Option<Lock>, String> {
    let folder = places.run_nixos();
    fs::create_dir_all(&folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
    lock(&folder.join("switch-to-configuration.lock"), FlockOperation::NonBlockingLockExclusive)
}

/// Locks a file; `None` where another has it.
fn lock(path: &Path, how: FlockOperation) -> Result<Option<Lock>, String> {
    // Whoever can open it can hold it.
    let file = File::options().create(true).append(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("can't open {}: {error}", path.display()))?;
    loop {
        match flock(&file, how) {
            Ok(()) => return Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(format!("can't lock {}: {error}", path.display())),
        }
    }
}

/// Makes a folder that only root may write to, or makes it so.
fn make(folder: &Path, mode: u32) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
    made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(mode)))
        .map_err(|error| format!("can't make {}: {error}", folder.display()))
}

/// What this boot is known by: the kernel's own mark, and when the first process started, as containers share the mark.
#[must_use]
pub(crate) fn this_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stat = fs::read_to_string("/proc/1/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let started = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or("0");
    format!("{}-{started}", id.trim())
}

/// Removes the oldest logs of attempts, but not that one.
pub(crate) fn prune_logs(places: &Places, own: &Path) {
    let Ok(entries) = fs::read_dir(places.state()) else { return };
    let mut logs: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    let excess = logs.len().saturating_sub(LOGS);
    for (_, path) in logs.into_iter().take(excess).filter(|(_, path)| path != own) {
        let _ = fs::remove_file(path);
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

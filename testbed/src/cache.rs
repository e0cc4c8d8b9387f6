//! What takes long to make and is the same for every lab: the root file system, the operator's Nix, micronix, the image.
//!
//! Each thing lies in a folder named after a hash of what makes it, and is never changed once it is there. It is made under
//! a lock in a temporary folder that is renamed at the end, so processes side by side wait for one another, and a killed
//! one leaves nothing half. Must never hold what only one lab needs.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use sha2::{Digest, Sha256};

use crate::run::until;

/// How long another process may take to make what this one waits for.
const MAKING: Duration = Duration::from_secs(20 * 60);
/// What has not been used for so long is removed by a sweep.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder below which everything lies: `BOSCO_TESTBED_CACHE`, or `/var/cache/bosco-testbed`.
#[must_use]
pub fn dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let resolved = || {
        let named = std::env::var_os("BOSCO_TESTBED_CACHE");
        let dir = named.map_or_else(|| "/var/cache/bosco-testbed".into(), PathBuf::from);
        // The kernel calls what is mounted there by the name without links. Where it can't be made, its first use says so.
        let _ = fs::create_dir_all(&dir);
        fs::canonicalize(&dir).unwrap_or(dir)
    };
    DIR.get_or_init(resolved).clone()
}

/// A thing of the cache. Where it is not there yet, `make` is called with an empty folder, and where that will lie.
pub(crate) fn entry(name: &str, key: &Key, make: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let name = format!("{name}-{}", key.hash());
    let path = dir().join(&name);
    let lock = lock_path(&name);
    if path.exists() {
        // Its lock's time says when it was last used.
        if let Ok(file) = File::open(&lock) {
            let _ = file.set_modified(SystemTime::now());
        }
        return Ok(path);
    }
    let _lock = Lock::wait(&lock)?;
    if path.exists() {
        return Ok(path);
    }
    let making = dir().join("making").join(&name);
    remove_half_made(&making)?;
    fs::create_dir_all(&making).with_context(|| format!("can't create {}", making.display()))?;
    if let Err(error) = make(&making, &path) {
        // What it was making may help to see why; the next try removes it.
        return Err(error.context(format!("can't make {}", path.display())));
    }
    fs::rename(&making, &path).with_context(|| format!("can't put {} into its place", path.display()))?;
    Ok(path)
}

/// A thing of the cache that this process has looked for once: it does not change, and finding it takes its time.
pub(crate) struct Once<T>(Mutex<Option<T>>);

impl<T: Clone> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        // Who comes while it is made waits for it here.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let made = make()?;
        *known = Some(made.clone());
        Ok(made)
    }
}

/// What makes a thing of the cache, for its name.
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(recipe: &str) -> Self {
        Self(Sha256::new()).and(recipe)
    }

    pub(crate) fn and(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
        self
    }

    /// Every file below a folder: its path, whether it can be run, and its contents.
    pub(crate) fn and_tree(mut self, root: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<Self> {
        for path in files(root, skip)? {
            let meta = fs::symlink_metadata(&path)?;
            let below = path.strip_prefix(root).unwrap_or(&path);
            self = self.and(below.as_os_str().as_encoded_bytes());
            self = if meta.is_symlink() {
                self.and("link").and(fs::read_link(&path)?.as_os_str().as_encoded_bytes())
            } else {
                let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
                self.and(if mode & 0o100 == 0 { "file" } else { "program" }).and(fs::read(&path)?)
            };
        }
        Ok(self)
    }

    pub(crate) fn hash(&self) -> String {
        self.0.clone().finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// All files and symbolic links below a folder, in order. What is skipped is given relative to it.
pub(crate) fn files(root: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if skip(path.strip_prefix(root).unwrap_or(&path)) {
                continue;
            }
            if fs::symlink_metadata(&path)?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// A lock between processes, held until it is dropped or its process is gone.
pub(crate) struct Lock(#[expect(dead_code, reason = "closing it lets go of the lock")] File);

impl Lock {
    /// Waits for the lock, as long as making the largest thing may take.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("can't open the lock {}", path.display()))?;
        until(MAKING, Duration::from_millis(20), || match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => bail!(
                "another process has held {} for {MAKING:?}; see `fuser -v {}`",
                path.display(),
                path.display()
            ),
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
        Ok(Self(file))
    }
}

fn lock_path(name: &str) -> PathBuf {
    dir().join("locks/entries").join(name)
}

/// Removes what a killed process was making, which may still be mounted there.
fn remove_half_made(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for mounted in below.filter(|mounted| mounted.starts_with(path)).collect::<Vec<_>>().into_iter().rev() {
        unmount(mounted, UnmountFlags::DETACH)
            .with_context(|| format!("can't unmount {}", mounted.display()))?;
    }
    remove(path)
}

/// What the labs that are up have of the cache without mounting it.
fn used_by_labs() -> String {
    let labs = fs::read_dir(dir().join("labs")).into_iter().flatten().flatten();
    labs.map(|lab| {
        let operator = lab.path().join("operator");
        let micronix = fs::read_link(operator.join("micronix")).unwrap_or_default();
        let configuration = fs::read_to_string(operator.join("conf/nix.conf")).unwrap_or_default();
        format!("{}\n{configuration}\n", micronix.display())
    })
    .collect()
}

/// Removes what has not been used for long, and what a killed process was making. Says what it was.
pub(crate) fn prune() -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let Ok(locks) = fs::read_dir(dir().join("locks/entries")) else { return Ok(gone) };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let used = used_by_labs();
    for lock in locks {
        let lock = lock?;
        let name = lock.file_name().to_string_lossy().into_owned();
        let file = File::open(lock.path())?;
        if file.try_lock().is_err() {
            continue;
        }
        remove_half_made(&dir().join("making").join(&name))?;
        let age = lock.metadata()?.modified()?.elapsed().unwrap_or_default();
        let path = dir().join(&name);
        if age > UNUSED && !mounts.contains(&*path.to_string_lossy()) && !used.contains(&name) {
            remove(&path)?;
            // The lock itself stays: whoever waits for it must not hold one that nobody else sees.
            gone.push(name);
        }
    }
    Ok(gone)
}

/// Removes a folder that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_parts_apart() {
        assert_ne!(Key::new("a").and("bc").hash(), Key::new("ab").and("c").hash());
        assert_eq!(Key::new("a").and("bc").hash(), Key::new("a").and("bc").hash());
    }
}

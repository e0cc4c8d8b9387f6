//! Control groups: what is in one can be counted, frozen and killed, and nothing else is. Must never touch a group that is
//! not below the testbed's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::run::until;

/// The group below which all others are.
const OURS: &str = "bosco-testbed";
/// How long killed processes may take to be gone: one may be waiting for a disk.
const DYING: Duration = Duration::from_secs(20);

/// A group, by its path below the mount.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// systemd-nspawn makes the same folders in systemd's version 1 tree, where a machine has both.
    shadow: Option<PathBuf>,
}

impl Cgroup {
    /// The group of a lab, or of a part of it. It need not exist.
    pub(crate) fn of(parts: &[&str]) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("can't read /proc/mounts")?;
        let below: PathBuf = std::iter::once(OURS).chain(parts.iter().copied()).collect();
        let mount = mounted(&mounts, "cgroup2", "").ok_or_else(|| {
            anyhow!("no cgroup2 file system is mounted; try `mount -t cgroup2 none /sys/fs/cgroup/unified`")
        })?;
        let shadow = mounted(&mounts, "cgroup", "name=systemd").map(|mount| mount.join(&below));
        Ok(Self { path: mount.join(below), shadow })
    }

    pub(crate) fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("can't create {}", self.path.display()))
    }

    /// The file to which a process writes 0 to join.
    pub(crate) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The folder of the group, and its double in systemd's version 1 tree.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.shadow.as_deref())
    }

    /// Whether any process is in it or below.
    pub(crate) fn populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = format!("frozen {}", u8::from(frozen));
        until(DYING, Duration::from_millis(2), || {
            let events = fs::read_to_string(self.path.join("cgroup.events"))?;
            if events.lines().any(|line| line == wanted) {
                return Ok(());
            }
            bail!("{} did not come to `{wanted}` within {DYING:?}", self.path.display());
        })
    }

    /// Kills all that is in it and below, at once, waits until they are gone, and removes the groups: a new machine in an
    /// old machine's groups gets services killed at random.
    pub(crate) fn kill(&self) -> Result<()> {
        if self.path.exists() {
            self.write("cgroup.kill", "1")?;
            until(DYING, Duration::from_millis(1), || {
                if self.populated() {
                    bail!(
                        "processes in {} are still there {DYING:?} after they were killed",
                        self.path.display()
                    );
                }
                Ok(())
            })?;
        }
        // Their last references are let go of a moment after they are gone.
        until(DYING, Duration::from_millis(2), || self.folders().try_for_each(remove_tree))
    }

    /// The groups below it whose own name begins so, and in which some process is.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            // A group can go while it is looked at.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let group = Self { path: entry.path(), shadow: None };
                if entry.file_name().to_string_lossy().starts_with(prefix) && group.populated() {
                    found.push(group);
                } else {
                    folders.push(entry.path());
                }
            }
        }
        found
    }

    /// The processes in it, by their ids on the machine below.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.procs()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all that is in it and below, at once, and waits for nothing.
    pub(crate) fn strike(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).with_context(|| format!("can't write {value} to {}", path.display()))
    }
}

fn mounted(mounts: &str, kind: &str, option: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, this, options) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = this == kind && (option.is_empty() || options.split(',').any(|have| have == option));
        fits.then(|| PathBuf::from(path))
    })
}

fn remove_tree(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove the control group {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup2_mount_is_found_wherever_it_is() {
        let hybrid = "cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mounted(hybrid, "cgroup2", "").unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(mounted(hybrid, "cgroup", "name=systemd").unwrap(), Path::new("/sys/fs/cgroup/systemd"));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(mounted(unified, "cgroup2", "").unwrap(), Path::new("/sys/fs/cgroup"));
        assert_eq!(mounted(unified, "cgroup", "name=systemd"), None);
    }
}

//! Takes labs down: one's own at its end, and those of runs that were killed. Must never touch a lab whose owner still
//! runs, nor anything that carries no lab's name.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rustix::mount::{UnmountFlags, unmount};

use crate::cgroup::Cgroup;
use crate::disk::unmount_soon;
use crate::{cache, net, nspawn, state};

/// The folder of a lab is made in a moment; one that has been in the making for so long is left over.
const MAKING: Duration = Duration::from_secs(60);

/// What a sweep has found and removed.
#[derive(Debug, Default)]
pub struct Swept {
    /// Labs whose owner is gone.
    pub labs: Vec<String>,
    /// What of the cache has not been used for a week.
    pub unused: Vec<String>,
    /// What could not be removed, and why.
    pub failed: Vec<(String, anyhow::Error)>,
}

/// Removes what killed runs have left, and what of the cache has not been used for long.
///
/// # Errors
/// Where it can't be found out what there is.
pub fn sweep() -> Result<Swept> {
    let mut swept = stale_labs()?;
    swept.unused = cache::prune()?;
    Ok(swept)
}

/// Removes labs whose owner is gone.
pub(crate) fn stale_labs() -> Result<Swept> {
    let mut swept = Swept::default();
    let _lock = state::lock()?;
    for (id, owner) in state::all()? {
        if owner.is_some_and(|owner| !owner.is_gone()) {
            continue;
        }
        match tear_down(&id) {
            Ok(()) => swept.labs.push(id),
            Err(error) => swept.failed.push((id, error)),
        }
    }
    if let Ok(entries) = fs::read_dir(state::labs()) {
        for entry in entries {
            let entry = entry?;
            let unfinished = entry.file_name().to_string_lossy().starts_with('.');
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
            if unfinished && matches!(age, Ok(Ok(age)) if age > MAKING) {
                cache::remove(&entry.path())?;
            }
        }
    }
    Ok(swept)
}

/// Ends all that runs in a lab and removes all that there is of it. Goes as far as it can; says what was first in its way.
pub(crate) fn tear_down(id: &str) -> Result<()> {
    let steps = [
        Cgroup::of(&[id]).and_then(|cgroup| cgroup.kill()),
        net::remove(id),
        nspawn::clean_up(id, None),
        unmount_all(id),
    ];
    steps.into_iter().collect::<Result<Vec<()>>>()?;
    state::remove(id)
}

fn unmount_all(id: &str) -> Result<()> {
    let mut mounted = mounts(id)?;
    // What was mounted last lies uppermost.
    mounted.reverse();
    for path in mounted {
        if unmount_soon(&path).is_err() {
            // Something that is not ours looks into it: it goes when that ends.
            unmount(&path, UnmountFlags::DETACH)?;
        }
    }
    Ok(())
}

fn mounts(id: &str) -> Result<Vec<PathBuf>> {
    let folder = state::path(id);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let paths = paths.map(|path| PathBuf::from(path.replace("\\040", " ")));
    Ok(paths.filter(|path| path.starts_with(&folder)).collect())
}

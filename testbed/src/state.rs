//! What there is of a lab on the disk, and whose it is. Must never remove what belongs to a process that still runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::emulated::Emulated;

/// What the names of all labs begin with: namespaces, control groups and machines carry them too.
pub(crate) const PREFIX: &str = "bosco-";
const OWNER: &str = "owner.json";
const HOSTS: &str = "hosts.json";

/// Who made a lab: while it lives, the lab must not be touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// None for a lab that is to last until it is taken down.
    process: Option<Process>,
    /// Of the machine below: after it has booted anew, nothing of a lab runs any more.
    boot: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    id: u32,
    /// Process ids come again; with the time of the start they do not.
    start: u64,
}

/// A host, as far as it has to be known again by another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) name: String,
    pub(crate) index: u16,
    pub(crate) own_disk: bool,
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) init: Option<String>,
    /// Where it is emulated, what it is made from.
    #[serde(default)]
    pub(crate) emulated: Option<Emulated>,
}

impl Owner {
    pub(crate) fn this_process() -> Result<Self> {
        let id = std::process::id();
        let start = start_of(id).context("can't read when this process was started")?;
        Ok(Self { process: Some(Process { id, start }), boot: boot_id() })
    }

    pub(crate) fn nobody() -> Self {
        Self { process: None, boot: boot_id() }
    }

    pub(crate) fn lasts(&self) -> bool {
        self.process.is_none()
    }

    /// Whether the lab is nobody's any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.boot != boot_id()
            || self.process.as_ref().is_some_and(|process| start_of(process.id) != Some(process.start))
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

/// When a process was started, in ticks since the machine's boot.
fn start_of(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The folder of all labs.
pub(crate) fn labs() -> PathBuf {
    cache::dir().join("labs")
}

/// The folder of a lab.
pub(crate) fn path(id: &str) -> PathBuf {
    labs().join(id)
}

/// The lock under which labs are swept, and namespaces first made.
pub(crate) fn lock() -> Result<cache::Lock> {
    cache::Lock::wait(&cache::dir().join("locks/labs"))
}

/// Makes the folder of a new lab, which belongs to someone from its first moment on.
pub(crate) fn new_lab(owner: &Owner) -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unique = format!("{}.{now}.{count}", std::process::id());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(unique);
    let id: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{PREFIX}{id}");
    let making = labs().join(format!(".{id}"));
    fs::create_dir_all(&making).with_context(|| format!("can't create {}", making.display()))?;
    fs::write(making.join(OWNER), serde_json::to_vec(owner)?)?;
    fs::rename(&making, path(&id)).with_context(|| format!("can't create {}", path(&id).display()))?;
    Ok(id)
}

/// Gives a lab to another owner.
pub(crate) fn give(id: &str, owner: &Owner) -> Result<()> {
    let new = path(id).join("owner.new");
    fs::write(&new, serde_json::to_vec(owner)?)?;
    fs::rename(&new, path(id).join(OWNER)).with_context(|| format!("can't say whose {id} is"))
}

/// All labs, with their owners; none for a lab that has none any more.
pub(crate) fn all() -> Result<Vec<(String, Option<Owner>)>> {
    let mut labs = Vec::new();
    let Ok(entries) = fs::read_dir(self::labs()) else { return Ok(labs) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            match fs::read(path(&name).join(OWNER)).map(|bytes| serde_json::from_slice(&bytes)) {
                Err(_) => labs.push((name, None)),
                Ok(Ok(owner)) => labs.push((name, Some(owner))),
                // Another version's, perhaps: not ours to judge.
                Ok(Err(_)) => {}
            }
        }
    }
    labs.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(labs)
}

pub(crate) fn write_hosts(lab: &Path, hosts: &[HostRecord]) -> Result<()> {
    fs::write(lab.join(HOSTS), serde_json::to_vec_pretty(hosts)?).context("can't write the list of hosts")
}

pub(crate) fn read_hosts(lab: &Path) -> Result<Vec<HostRecord>> {
    let path = lab.join(HOSTS);
    let bytes = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("can't read {}", path.display()))
}

/// Removes the folder of a lab of which nothing runs and nothing is mounted.
pub(crate) fn remove(id: &str) -> Result<()> {
    cache::remove(&path(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_keeps_its_labs_and_a_gone_one_does_not() {
        let mine = Owner::this_process().unwrap();
        assert!(!mine.is_gone());
        let Some(process) = mine.process.clone() else { unreachable!() };
        let reused = Owner { process: Some(Process { start: process.start + 1, ..process }), ..mine.clone() };
        assert!(reused.is_gone());
        assert!(Owner { boot: "another".into(), ..mine }.is_gone());
        assert!(!Owner::nobody().is_gone());
    }
}

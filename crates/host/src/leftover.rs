//! Ending what an effect has left at work: all that is in the activation's own control group but the helper itself.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::run::{program, run};

/// How long systemd may take to end a unit.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
/// How often the group is gone through: what is ended may just have started something.
const ROUNDS: usize = 20;

/// Ends all that the helper has started and that still works. Only in a unit of its own: elsewhere, whatever is in its
/// group may be somebody else's.
pub(crate) fn end() {
    let Some(group) = own_group() else { return };
    let me = getpid();
    for _ in 0..ROUNDS {
        let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) else { return };
        let others: Vec<Pid> = text
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
            .filter(|pid| *pid != me)
            .collect();
        if others.is_empty() {
            return;
        }
        for pid in others {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Ends the unit that carries an attempt out: it hangs.
pub(crate) fn end_unit(unit: &str) {
    let _ = run(program("systemctl").args(["kill", "--signal=SIGKILL", unit]), LIMIT);
}

/// The control group of the helper, where it has one of its own.
fn own_group() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    // `0::/PATH` in the unified hierarchy, `1:name=systemd:/PATH` in the older one.
    let of = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (number, name, path) = (fields.next()?, fields.next()?, fields.next()?);
        let unit = path.rsplit('/').next()?;
        let ours = unit.starts_with("bosco-") && unit.ends_with(".service");
        let places: &[&str] = match (number, name) {
            ("0", "") => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            (_, "name=systemd") => &["/sys/fs/cgroup/systemd"],
            _ => return None,
        };
        if !ours {
            return None;
        }
        places
            .iter()
            .map(|place| PathBuf::from(format!("{place}{path}")))
            .find(|path| path.join("cgroup.procs").exists())
    };
    text.lines().find_map(of)
}

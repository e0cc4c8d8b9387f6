//! Mounts that are declared in /etc/fstab. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: String,
    kind: String,
    options: String,
}

/// What a fstab declares.
#[derive(Debug, Default)]
pub(crate) struct Fstab {
    mounts: BTreeMap<String, Mount>,
    swaps: BTreeSet<String>,
}

/// What a mount point needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountChange {
    Reload(String),
    Restart(String),
    Stop(String),
    /// It has changed, and nothing can be done about it now.
    Leave(String),
}

impl Fstab {
    pub(crate) fn parse(text: &str) -> Self {
        let mut fstab = Self::default();
        for line in text.lines().filter(|line| !line.contains('#')) {
            let mut fields = line.split_whitespace().map(str::to_owned);
            let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if kind == "swap" {
                fstab.swaps.insert(device);
            } else {
                let options = fields.next().unwrap_or_default();
                fstab.mounts.insert(point, Mount { device, kind, options });
            }
        }
        fstab
    }

    /// What changes of file systems ask for. New ones are mounted by local-fs.target.
    pub(crate) fn changes_to(&self, new: &Self) -> Vec<MountChange> {
        let mut changes = Vec::new();
        for (point, old) in &self.mounts {
            let point = point.clone();
            match new.mounts.get(&point) {
                None => changes.push(MountChange::Stop(point)),
                Some(new) if old == new => {}
                Some(new) if old.device == new.device && old.kind == new.kind => {
                    changes.push(MountChange::Reload(point));
                }
                // These two cannot be unmounted under a running system.
                Some(new) if point == "/" || point == "/nix" => changes.push(if old.options == new.options {
                    MountChange::Leave(point)
                } else {
                    MountChange::Reload(point)
                }),
                Some(_) => changes.push(MountChange::Restart(point)),
            }
        }
        changes
    }

    /// Swap devices that are declared no more.
    pub(crate) fn swaps_gone(&self, new: &Self) -> Vec<String> {
        self.swaps.difference(&new.swaps).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let old = Fstab::parse(
            "# a\n/dev/a / ext4 rw\n/dev/b /srv ext4 rw\n/dev/c /old ext4\n/dev/d /opt ext4 ro\n/dev/s none swap\n",
        );
        let new = Fstab::parse("/dev/z / ext4 rw\n/dev/b /srv xfs rw\n/dev/d /opt ext4 rw\n");
        assert_eq!(
            old.changes_to(&new),
            [
                MountChange::Leave("/".into()),
                MountChange::Stop("/old".into()),
                MountChange::Reload("/opt".into()),
                MountChange::Restart("/srv".into()),
            ]
        );
        assert_eq!(old.swaps_gone(&new), ["/dev/s"]);
    }
}

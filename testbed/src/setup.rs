//! What the machine below the labs must have: root, some packages, some limits of the kernel. Must never change more of it
//! than that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Lock};
use crate::run::run_ok;
use crate::tools::{find, tool};

/// A program, and Debian's package that has it.
const PROGRAMS: [(&str, &str); 10] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ssh", "openssh-client"),
    ("busybox", "busybox-static"),
    ("patchelf", "patchelf"),
    ("mkfs.ext4", "e2fsprogs"),
    ("unshare", "util-linux"),
    ("git", "git"),
];

/// What only an emulated machine needs: a program or file, and its package.
const EMULATION: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    (crate::emulated::FIRMWARE, "ovmf"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("sfdisk", "fdisk"),
];

/// What hosts may use the hub with.
const CLIENTS: [(&str, &str); 4] = [
    ("sftp", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("restic", "restic"),
    ("rclone", "rclone"),
];

/// A limit of the kernel, and what many machines at once need.
const LIMITS: [(&str, u64); 4] = [
    ("/proc/sys/fs/inotify/max_user_instances", 8192),
    ("/proc/sys/fs/inotify/max_user_watches", 1 << 20),
    ("/proc/sys/kernel/pid_max", 1 << 20),
    ("/proc/sys/net/ipv4/neigh/default/gc_thresh3", 8192),
];

/// Says clearly when this is not root.
///
/// # Errors
/// Where it is not.
pub fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the testbed boots whole machines, with network and disks of their own, and must be run by root; \
             try the same with `sudo`"
        );
    }
    Ok(())
}

/// Root, the programs and the limits.
pub(crate) fn prepare() -> Result<()> {
    require_root()?;
    packages(&PROGRAMS)?;
    for (path, wanted) in LIMITS {
        raise(Path::new(path), wanted)?;
    }
    Ok(())
}

/// What an emulated machine needs besides.
pub(crate) fn prepare_emulation() -> Result<()> {
    prepare()?;
    packages(&EMULATION)
}

/// The programs that tests of the hub use it with; they are installed where they are missing, which takes root.
///
/// # Errors
/// Where they are missing and can't be installed.
pub fn prepare_clients() -> Result<()> {
    packages(&CLIENTS)
}

fn missing(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect()
}

fn packages(programs: &[(&str, &'static str)]) -> Result<()> {
    if missing(programs).is_empty() {
        return Ok(());
    }
    let _lock = Lock::wait(&cache::dir().join("locks/packages"))?;
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("the testbed needs these packages (Debian's names): {}; install them", missing.join(" "));
    }
    let install = || {
        let mut apt = tool("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["-o", "DPkg::Lock::Timeout=120", "install", "--yes", "--no-install-recommends"])
            .args(&missing);
        run_ok(&mut apt, Duration::from_secs(600))
    };
    if install().is_err() {
        // The lists may be old, or not there at all.
        run_ok(tool("apt-get").arg("update"), Duration::from_secs(300))
            .context("can't refresh apt's lists")?;
        install().with_context(|| format!("can't install {}", missing.join(" ")))?;
    }
    Ok(())
}

fn raise(path: &Path, wanted: u64) -> Result<()> {
    let Ok(now) = fs::read_to_string(path) else { return Ok(()) };
    if now.trim().parse().is_ok_and(|now: u64| now >= wanted) {
        return Ok(());
    }
    fs::write(path, wanted.to_string()).with_context(|| format!("can't raise {} to {wanted}", path.display()))
}

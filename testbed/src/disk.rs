//! What a host has written: a folder over its image, or, where a disk's faults are to be played, a small file system of
//! its own, which can lose what was not synced, and be full. Must never mount outside the lab's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use crate::cache;
use crate::emulated::Emulated;
use crate::image::overlay;
use crate::ioctl::shut_down_file_system;
use crate::run::{SHORT, run_ok, until};
use crate::state::HostRecord;
use crate::tools::tool;

/// A disk of a host's own, in its folder.
pub(crate) const IMAGE: &str = "disk.ext4";
/// How long a file system that nobody should use any more may still be busy: a machine that starts beside it has it in its sight for
/// a moment, which is long where much is going on.
const BUSY: Duration = Duration::from_secs(60);

/// A host's root, and what it lies on.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// The host's folder in the lab.
    folder: PathBuf,
    lower: Vec<PathBuf>,
    own: bool,
    emulated: Option<Emulated>,
}

impl Disk {
    pub(crate) fn new(folder: &Path, host: &HostRecord) -> Self {
        Self {
            folder: folder.into(),
            lower: host.lower.clone(),
            own: host.own_disk,
            emulated: host.emulated.clone(),
        }
    }

    /// Ends an installation, which has written to the root: a host that has been installed has been synced.
    pub(crate) fn installed(&self) -> Result<()> {
        if self.emulated.is_some() {
            // From here on the disk is the machine's own kernel's.
            self.unmount()?;
            fs::remove_dir(self.root())?;
        } else if self.own {
            rustix::fs::syncfs(fs::File::open(self.root())?)?;
        }
        Ok(())
    }

    /// The host's root, while it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// Where the disk is mounted, or the folder that stands for one.
    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    fn filler(&self) -> PathBuf {
        self.disk().join("filler")
    }

    /// Makes an empty disk, of so many MiB where it is one of its own; an emulated host's is a copy of its image.
    pub(crate) fn create(&self, mib: Option<u64>) -> Result<()> {
        if let Some(emulated) = &self.emulated {
            fs::create_dir_all(self.root()).context("can't create the host's folder")?;
            return emulated.copy_to(&self.folder);
        }
        for folder in [self.root(), self.disk()] {
            fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        if let Some(mib) = mib {
            let image = fs::File::create(self.image()).context("can't create the host's disk")?;
            image.set_len(mib << 20)?;
            let mut mkfs = tool("mkfs.ext4");
            mkfs.args(["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
            run_ok(mkfs.arg(self.image()), SHORT)?;
        }
        Ok(())
    }

    /// Mounts the root.
    pub(crate) fn mount(&self) -> Result<()> {
        if self.emulated.is_some() {
            let mut mount = tool("mount");
            mount.args(["-t", "ext4", "-o", "loop"]).arg(self.image()).arg(self.root());
            return run_ok(&mut mount, SHORT).map(drop);
        }
        if self.own {
            // Renaming over a file is not to sync it by itself: what forgets to sync shall be found out. Writes are kept in
            // order by the page cache below, so barriers would only cost time.
            let mut mount = tool("mount");
            mount.args(["-t", "ext4", "-o", "loop,noauto_da_alloc,nobarrier"]);
            run_ok(mount.arg(self.image()).arg(self.disk()), SHORT)?;
        }
        let (upper, work) = (self.disk().join("upper"), self.disk().join("work"));
        fs::create_dir_all(&upper)?;
        // A volatile overlay leaves a mark, so that it is not taken for one that was unmounted well.
        cache::remove(&work)?;
        fs::create_dir_all(&work)?;
        // Without a disk of its own nothing a host writes can be lost, so its syncs need not wait for this machine's disk.
        overlay(&self.lower, &upper, &work, &self.root(), if self.own { "" } else { ",volatile" })
    }

    pub(crate) fn unmount(&self) -> Result<()> {
        let mut mounted = vec![self.root()];
        if self.own {
            mounted.push(self.disk());
        }
        mounted.iter().try_for_each(|path| unmount_soon(path))?;
        // The file system itself ends when the last process is gone that had it in its sight. Mounted again before that, it
        // would be the same one: with what it had in memory, and shut down where it was.
        until(BUSY, Duration::from_millis(2), || {
            if attached(&self.image()) {
                bail!("something still uses {}; see `losetup --list`", self.image().display());
            }
            Ok(())
        })
    }

    /// From now on nothing reaches the disk, and what was not synced is lost.
    pub(crate) fn lose_unsynced(&self) -> Result<()> {
        if self.emulated.is_some() {
            // That goes with the memory of its own kernel.
            return Ok(());
        }
        self.must_be_own("losing what was not synced")?;
        shut_down_file_system(&self.disk())
    }

    /// After [`Self::lose_unsynced`], with nothing running any more: the disk as it will be found.
    pub(crate) fn find_again(&self) -> Result<()> {
        if self.emulated.is_some() {
            return Ok(());
        }
        self.unmount()?;
        self.mount()
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        self.must_be_own("a full disk")?;
        let filler = fs::File::options().create(true).append(true).open(self.filler())?;
        let mut step = 64 << 20;
        // Down to the last block.
        while step >= 4096 {
            let length = filler.metadata()?.len();
            match rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), length, step) {
                Ok(()) => {}
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error).context("can't fill the host's disk"),
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub(crate) fn free(&self) -> Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("can't free the host's disk")
            }
            _ => Ok(()),
        }
    }

    fn must_be_own(&self, what: &str) -> Result<()> {
        if self.emulated.is_some() {
            bail!("{what} can't be had from outside on an emulated host: its disk is its own kernel's");
        }
        if !self.own {
            bail!("{what} needs a host with a disk of its own: `LabSpec::own_disk`, `lab up --own-disk`");
        }
        Ok(())
    }
}

/// Makes a folder in which what is unmounted is gone for all: else every machine that was started later, of any
/// lab, holds what was mounted when it was, and a disk whose power was cut comes back as it was in the kernel's memory.
pub(crate) fn share(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
    mount_bind(folder, folder)
        .and_then(|()| mount_change(folder, MountPropagationFlags::SHARED))
        .with_context(|| format!("can't make {} a shared mount", folder.display()))
}

/// Whether a file is some loop device's.
fn attached(image: &Path) -> bool {
    let Ok(devices) = fs::read_dir("/sys/block") else { return false };
    let mut files = devices
        .flatten()
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.any(|file| Path::new(file.trim_end()) == image)
}

/// Unmounts what the processes that used it have only just let go of.
pub(crate) fn unmount_soon(path: &Path) -> Result<()> {
    until(BUSY, Duration::from_millis(5), || match unmount(path, UnmountFlags::empty()) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!("can't unmount {0} within {BUSY:?}; see `fuser -vm {0}`", path.display())
        }),
    })
}

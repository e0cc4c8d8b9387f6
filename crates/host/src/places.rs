//! Where things are on a host. Nothing else in this crate writes such a path down.

use std::fs;
use std::path::{Path, PathBuf};

use bosco_model::StorePath;

/// The profile in `system-profiles` that gives a candidate a boot entry of its own. Of word characters only: the
/// installer of GRUB leaves out every profile whose name has others (`next unless $name =~ /^\w+$/`).
pub const CANDIDATE: &str = "bosco_candidate";

/// The places of a host, below one root.
#[derive(Debug, Clone)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// Those of this machine.
    #[must_use]
    pub fn host() -> Self {
        Self { root: "/".into() }
    }

    /// Those of a machine whose root is that folder.
    #[must_use]
    pub fn below(dir: impl Into<PathBuf>) -> Self {
        Self { root: dir.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What has to survive a reboot, also where the root file system does not: it lies beside the store.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.at("nix/var/bosco")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.at("nix/var/bosco/journal.json")
    }

    /// What is of this boot only.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.at("run/bosco")
    }

    /// What must not be collected as garbage: a folder of links.
    #[must_use]
    pub fn gcroots(&self) -> PathBuf {
        self.at("nix/var/nix/gcroots/bosco")
    }

    /// The profile whose generations the boot menu lists; not what boots.
    #[must_use]
    pub fn profile(&self) -> PathBuf {
        self.at("nix/var/nix/profiles/system")
    }

    /// The profile that gives a candidate a boot entry without making it the default.
    #[must_use]
    pub fn candidate_profile(&self) -> PathBuf {
        self.at("nix/var/nix/profiles/system-profiles").join(CANDIDATE)
    }

    /// The link to the system that runs.
    #[must_use]
    pub fn current_system(&self) -> PathBuf {
        self.at("run/current-system")
    }

    /// The link to the system that was booted.
    #[must_use]
    pub fn booted_system(&self) -> PathBuf {
        self.at("run/booted-system")
    }

    /// Where the boot loader has its files, as a rule.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.at("boot")
    }

    /// Where `switch-to-configuration` has its lock and its lists.
    #[must_use]
    pub fn run_nixos(&self) -> PathBuf {
        self.at("run/nixos")
    }

    /// Bundles of secrets: ciphertext.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.at("nix/var/bosco/secrets")
    }

    /// The host's own key, by which it is known to ssh, and which opens its secrets.
    pub(crate) fn host_key(&self) -> PathBuf {
        self.at("etc/ssh/ssh_host_ed25519_key")
    }

    /// Where a path of the host's lies.
    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        self.at(path.trim_start_matches('/'))
    }

    /// Whether this is the machine itself, and not a folder that looks like one.
    pub(crate) fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.at("nix/store")
    }

    /// All places where the partition of the boot loader's files may be mounted.
    pub(crate) fn boot_partitions(&self) -> [PathBuf; 3] {
        ["boot", "boot/efi", "efi"].map(|path| self.at(path))
    }

    /// The firmware's variables, where the machine has EFI.
    pub(crate) fn efi_variables(&self) -> PathBuf {
        self.at("sys/firmware/efi/efivars")
    }

    /// What the kernel says of block devices, by number.
    pub(crate) fn block_devices(&self) -> PathBuf {
        self.at("sys/dev/block")
    }

    /// The system in what a profile may name: deploy-rs has it in a wrapper with links to all that is in it. What is no wrapper
    /// is its own.
    #[must_use]
    pub fn system(&self, path: &StorePath) -> StorePath {
        let within = self.at(path.as_str().trim_start_matches('/')).join("nixos-version");
        let file = fs::canonicalize(within).ok();
        let system = file.as_deref().and_then(Path::parent).and_then(|folder| self.store_path(folder));
        system.unwrap_or_else(|| path.clone())
    }

    /// The store path that a link leads to in the end. `None`: it leads nowhere, or elsewhere.
    #[must_use]
    pub fn store_path(&self, link: &Path) -> Option<StorePath> {
        let path = fs::canonicalize(link).ok()?;
        let root = fs::canonicalize(&self.root).ok()?;
        let below = path.strip_prefix(root).ok()?;
        StorePath::parse(Path::new("/").join(below).to_str()?).ok()
    }
}

/// What the tests of this crate share.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{env, fs, process};

    /// A folder that is gone when it is dropped.
    #[derive(Debug)]
    pub(crate) struct TempDir(PathBuf);

    impl TempDir {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("bosco-host-{}-{number}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        /// Writes a file below it, and the folders that it lies in.
        pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TempDir;
    use super::*;

    #[test]
    fn a_link_is_followed_to_the_store_path_that_it_leads_to() {
        assert_eq!(Places::host().journal(), Path::new("/nix/var/bosco/journal.json"));
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let system = format!("/nix/store/{}-nixos-system-a-1", "0".repeat(32));
        let folder = dir.path().join(&system[1..]);
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::create_dir_all(places.profile().parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("system-7-link", places.profile()).unwrap();
        std::os::unix::fs::symlink(&folder, places.profile().with_file_name("system-7-link")).unwrap();
        assert_eq!(places.store_path(&places.profile()).unwrap().as_str(), system);
        assert_eq!(places.store_path(&places.current_system()), None, "it is not there");
        assert_eq!(places.store_path(&folder.join("etc")), None, "it is only below one");
    }
}

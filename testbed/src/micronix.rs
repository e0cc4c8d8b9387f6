//! micronix, the testbed's small NixOS, as a fleet's `nixpkgs` can refer to it: its Nix code with the programs that it puts
//! into a store. Must never hold what only one lab needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::{self, Key, Lock, Once};
use crate::rootfs::busybox;
use crate::run::run_ok;
use crate::tools::tool;

/// Building `switch-to-configuration` with all it needs, on a busy machine.
const BUILD: Duration = Duration::from_secs(15 * 60);

/// Where micronix' sources are: in the checkout that this was built from.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("micronix")
}

/// micronix, ready to be evaluated and built.
pub(crate) fn micronix() -> Result<PathBuf> {
    static MADE: Once<PathBuf> = Once::new();
    MADE.get(make)
}

fn make() -> Result<PathBuf> {
    let (sources, busybox, switch) = (sources(), busybox()?, switch()?);
    // The switch is a program of the workspace, and comes in as one; the tests are not part of any system.
    let skip = |path: &Path| ["switch", "tests"].iter().any(|other| path == Path::new(other));
    let key = Key::new("micronix 1")
        .and_tree(&sources, &skip)?
        .and(fs::read(&busybox)?)
        .and(switch.as_os_str().as_encoded_bytes());
    cache::entry("micronix", &key, |making, _| {
        for file in cache::files(&sources, &skip)? {
            let to = making.join(file.strip_prefix(&sources)?);
            fs::create_dir_all(to.parent().context("a file without a folder")?)?;
            if file.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&file)?, &to)?;
            } else {
                fs::copy(&file, &to).with_context(|| format!("can't copy {}", file.display()))?;
            }
        }
        for (from, folder) in [(busybox, "busybox"), (switch.join("switch-to-configuration"), "switch")] {
            let bin = making.join("blobs").join(folder).join("bin");
            fs::create_dir_all(&bin)?;
            fs::copy(&from, bin.join(from.file_name().context("a program without a name")?))?;
        }
        Ok(())
    })
}

/// `switch-to-configuration`, built to run on any machine.
fn switch() -> Result<PathBuf> {
    let workspace = sources().join("../..");
    let key = Key::new("switch 1").and_tree(&sources().join("switch"), &|path| path.starts_with("target"))?;
    cache::entry("switch", &key, |making, _| {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        // A folder of its own: the outer cargo, if there is one, may hold the lock of its own folder.
        let out = cache::dir().join("switch-target");
        let mut build = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .current_dir(&workspace)
            .args(["build", "--quiet", "--release", "--package", "micronix-switch", "--target", &target])
            .env("CARGO_TARGET_DIR", &out)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C opt-level=s -C strip=symbols")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        // That folder is shared by all checkouts: what is copied is what was built here.
        let _lock = Lock::wait(&cache::dir().join("locks/switch-target"))?;
        run_ok(&mut build, BUILD)?;
        let built = out.join(target).join("release/switch-to-configuration");
        fs::copy(&built, making.join("switch-to-configuration"))
            .with_context(|| format!("cargo has not built {}", built.display()))?;
        Ok(())
    })
}

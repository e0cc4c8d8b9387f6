//! micronix, the testbed's small NixOS, as a fleet's `nixpkgs` can refer to it: its Nix code with the programs that it puts
//! into a store. Must never hold what only one lab needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{self, Key, Once};
use crate::programs::program;
use crate::rootfs::busybox;

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
    let key = Key::new("switch 2").and_tree(&sources().join("switch"), &|path| path.starts_with("target"))?;
    program("micronix-switch", "switch-to-configuration", &key)
}

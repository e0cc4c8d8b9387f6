//! Programs of the workspace, built so that they run on any machine: what a host gets must not need its libraries. Must
//! never run in a lab's network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::{self, Key, Lock, Once};
use crate::run::run_ok;
use crate::tools::tool;

/// Building one with all it needs, on a busy machine.
const BUILD: Duration = Duration::from_secs(15 * 60);
/// What the helper is made from.
const HELPER: [&str; 3] = ["crates/model", "crates/activation", "crates/host"];

/// The checkout that this was built from.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of helpers, as `BOSCO_HELPERS` names one, with the helper for this kind of machine in it.
///
/// # Errors
/// Where it can't be built.
pub fn helpers() -> Result<PathBuf> {
    static MADE: Once<PathBuf> = Once::new();
    MADE.get(|| {
        let mut key = Key::new("helper 2").and(fs::read(workspace().join("Cargo.lock"))?);
        for part in HELPER {
            key = key.and_tree(&workspace().join(part), &|path| path.starts_with("tests"))?;
        }
        let built = program("bosco-host", "bosco-helper", &key)?;
        cache::entry("helpers", &key, |making, _| {
            let bin = making.join(format!("{}-linux/bosco-helper/bin", std::env::consts::ARCH));
            fs::create_dir_all(&bin)?;
            fs::copy(built.join("bosco-helper"), bin.join("bosco"))
                .map(drop)
                .context("the helper was not built")
        })
    })
}

/// A program of a package of the workspace, in a folder of the cache.
pub(crate) fn program(package: &str, name: &str, key: &Key) -> Result<PathBuf> {
    cache::entry(package, key, |making, _| {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        // A folder of its own: the outer cargo, if there is one, may hold the lock of its own folder. And one for each
        // checkout: cargo knows the members of a workspace by where they lie in it, and takes what another checkout has
        // built for this one's, wherever that was built later than this one's files were changed.
        let checkout = workspace().canonicalize().context("the checkout is gone")?;
        let checkout = Key::new("checkout").and(checkout.as_os_str().as_encoded_bytes()).hash();
        let out = cache::dir().join("programs-target").join(&checkout);
        let mut build = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .current_dir(workspace())
            .args([
                "build",
                "--quiet",
                "--profile",
                "helper",
                "--package",
                package,
                "--bin",
                name,
                "--target",
                &target,
            ])
            .env("CARGO_TARGET_DIR", &out)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        // What is copied is what was built here.
        let _lock = Lock::wait(&cache::dir().join(format!("locks/programs-target-{checkout}")))?;
        run_ok(&mut build, BUILD)?;
        let built = out.join(target).join("helper").join(name);
        fs::copy(&built, making.join(name))
            .with_context(|| format!("cargo has not built {}", built.display()))?;
        Ok(())
    })
}

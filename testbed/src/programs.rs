//! Programs of the workspace, as hosts get them: the helper so that it runs on any machine, without its libraries, and
//! bosco itself as a package has it. Must never run in a lab's network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::{self, Key, Lock, Once};
use crate::run::{SHORT, run_ok};
use crate::tools::tool;

/// Building one with all it needs, on a busy machine.
const BUILD: Duration = Duration::from_secs(15 * 60);
/// What the helper is made from.
const HELPER: [&str; 4] = ["crates/model", "crates/activation", "crates/secrets", "crates/host"];

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

/// bosco as a package: `bin/bosco`, and the helpers where it looks for them. It is the very program that is given, so a
/// change of it costs no second build; the hosts' libraries are newer than those of the machine that builds, as a program
/// wants it, and names are looked up as the host does it.
///
/// # Errors
/// Where there is no such program.
pub fn package(program: &Path) -> Result<PathBuf> {
    let helpers = helpers()?;
    let bytes = fs::read(program).with_context(|| format!("can't read {}", program.display()))?;
    let key = Key::new("package 1").and(bytes).and(helpers.as_os_str().as_encoded_bytes());
    cache::entry("package", &key, |making, _| {
        let (bin, libexec) = (making.join("bin"), making.join("libexec/bosco"));
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&libexec)?;
        // It goes to every host: without what only a debugger reads, it is half as long.
        let mut strip = tool("strip");
        strip.arg("--strip-debug").arg("-o").arg(bin.join("bosco")).arg(program);
        run_ok(&mut strip, SHORT)?;
        run_ok(tool("cp").arg("--archive").arg(helpers).arg(libexec.join("helpers")), SHORT).map(drop)
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

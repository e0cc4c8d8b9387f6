//! `cargo xtask install DIR`: bosco, and the helper that it brings to hosts, as a package has them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tools::{build, cargo, root, run};

/// Puts `bin/bosco` and `libexec/bosco/helpers/SYSTEM/bosco-helper/bin/bosco` below a folder.
pub(crate) fn install(dir: &Path) -> Result<()> {
    let arch = std::env::consts::ARCH;
    let bosco = build("bosco", "bosco", true)?;
    // A host has no libraries where other systems have theirs: the helper brings all that it needs.
    let (target, out) = (format!("{arch}-unknown-linux-gnu"), root().join("target/helper"));
    let mut helper =
        cargo(&["build", "--quiet", "--profile", "helper", "--package", "bosco-host", "--target", &target]);
    helper
        .env("CARGO_TARGET_DIR", &out)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(&mut helper)?;
    let helper = out.join(target).join("helper/bosco-helper");
    let place = dir.join(format!("libexec/bosco/helpers/{arch}-linux/bosco-helper/bin/bosco"));
    for (from, to) in [(bosco, dir.join("bin/bosco")), (helper, place)] {
        fs::create_dir_all(to.parent().unwrap_or(dir))?;
        // A program that runs can't be written to.
        let _ = fs::remove_file(&to);
        fs::copy(&from, &to).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

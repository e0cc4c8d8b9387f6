//! Starting cargo, and the tools that it does not bring.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The version of cargo-deny that reads `deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Runs a command in the checkout, with its output where this one's goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.current_dir(root()).status().with_context(|| format!("could not run {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}

/// `cargo`, the one that runs this.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Builds a program of the workspace and says where it is.
pub(crate) fn build(package: &str, bin: &str, release: bool) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--quiet", "--package", package]);
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }).join(bin))
}

/// cargo-deny, built where it is missing: kept outside the checkout, with little optimisation, as it runs for seconds.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let dir = testbed::cache::dir().join(format!("cargo-deny-{CARGO_DENY}"));
    let program = dir.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = cargo(&["install", "cargo-deny", "--version", CARGO_DENY, "--locked"]);
        install.args(["--no-default-features", "--quiet", "--root"]).arg(&dir);
        install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        run(&mut install)?;
    }
    Ok(program)
}

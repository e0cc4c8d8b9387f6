//! Starting cargo, and the tools that it does not bring.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The version of cargo-deny that reads `deny.toml`.
const CARGO_DENY: &str = "0.20.2";
/// The version of deploy-rs that benchmarks run beside bosco.
const DEPLOY_RS: &str = "1.0.0";
/// What building a tool may take, on a busy machine.
const BUILDING: Duration = Duration::from_secs(30 * 60);

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

/// cargo-deny, built where it is missing.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    Ok(installed("cargo-deny", CARGO_DENY, "cargo-deny", &["--no-default-features"])?.join("cargo-deny"))
}

/// The folder with deploy-rs's `deploy` and `activate`, built where they are missing.
pub(crate) fn deploy_rs() -> Result<PathBuf> {
    installed("deploy-rs", DEPLOY_RS, "deploy", &[])
}

/// The folder with the programs of a crate: kept outside the checkout, with little optimisation, as what they do themselves
/// takes seconds at most.
fn installed(name: &str, version: &str, program: &str, more: &[&str]) -> Result<PathBuf> {
    let dir = testbed::cache::dir().join(format!("{name}-{version}"));
    let bin = dir.join("bin");
    if !bin.join(program).exists() {
        let mut install = Command::new("timeout");
        install.arg("--foreground").arg(BUILDING.as_secs().to_string()).arg(cargo(&[]).get_program());
        install.args(["install", name, "--version", version, "--locked", "--quiet"]);
        install.args(more).arg("--root").arg(&dir);
        install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        run(&mut install)?;
    }
    Ok(bin)
}

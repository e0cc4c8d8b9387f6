//! What benchmarks have the operator do, each command within a limit of time.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Operator;

/// What one command may take. A peer that deploys to its hosts one by one takes a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A command of the operator's that is killed, with all it started, at its limit. `timeout` sees to that, as it wakes at
/// once when the command ends; a wait that looks every so often would be part of what is measured.
pub(crate) fn command(operator: &Operator, program: impl AsRef<OsStr>) -> Command {
    let mut command = operator.command("timeout");
    command.args(["--kill-after=5", &LIMIT.as_secs().to_string()]).arg(program);
    command
}

/// Runs a command, and shows what it said only where it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The standard output of a command that succeeds.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    String::from_utf8(output(command)?.stdout).context("a command wrote something that is not text")
}

fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().context("could not run a command")?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// A bare evaluation of all hosts of a fleet.
pub(crate) fn evaluate(operator: &Operator, dir: &Path) -> Result<()> {
    let mut nix = command(operator, "nix");
    nix.args(["eval", "--json", "--no-eval-cache", ".#nixosConfigurations", "--apply"]);
    nix.arg("builtins.mapAttrs (_: host: host.config.system.build.toplevel.drvPath)");
    quiet(nix.current_dir(dir))
}

/// `ssh HOST SCRIPT`, as the operator reaches their hosts.
pub(crate) fn ssh(operator: &Operator, host: &str, script: &str) -> Command {
    let mut ssh = command(operator, "ssh");
    ssh.arg("-F").arg(operator.ssh_config()).args(["--", host, script]);
    ssh
}

/// One `ssh HOST SCRIPT` to each host, side by side.
pub(crate) fn all_at_once(operator: &Operator, names: &[&str], script: &str) -> Result<()> {
    let mut children = Vec::new();
    for name in names {
        let mut ssh = ssh(operator, name, script);
        children.push(ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    // All are waited for, also where one has failed.
    let ended: Vec<_> = children.iter_mut().map(std::process::Child::wait).collect();
    for (name, status) in names.iter().zip(ended) {
        ensure!(status?.success(), "`{script}` failed on {name}");
    }
    Ok(())
}

//! Talking to systemd, by its own commands.

use crate::plan::{Active, UnitState};
use crate::say::say;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long systemd may take to answer again after it has replaced itself.
const REEXEC_LIMIT: Duration = Duration::from_secs(180);
/// How long units may go on changing after a switch, and how often they are looked at.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
const SETTLE_STEP: Duration = Duration::from_millis(250);

const MANAGER: [&str; 3] =
    ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
const LOGIN: [&str; 3] =
    ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"];

/// systemd's commands of one system.
pub(crate) struct Systemd {
    bin: PathBuf,
}

/// A user who is logged in.
pub(crate) struct LoggedIn {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
    pub(crate) runtime: String,
}

impl Systemd {
    pub(crate) fn new(systemd: &Path) -> Self {
        Self { bin: systemd.join("bin") }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
        command
    }

    fn bus(&self, args: &[&str]) -> Result<Value> {
        let output = self
            .command("busctl")
            .args(["--system", "--json=short", "--timeout=10"])
            .args(args)
            .output()
            .context("Failed to open dbus connection")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let answer: Value =
            serde_json::from_slice(&output.stdout).context("Failed to read what the bus answered")?;
        Ok(answer["data"].clone())
    }

    /// Every unit that systemd has loaded, with what can change about it.
    fn units(&self) -> Result<Vec<Vec<Value>>> {
        let [service, object, interface] = MANAGER;
        let data = self
            .bus(&["call", service, object, interface, "ListUnitsByPatterns", "asas", "0", "0"])
            .context("Failed to list systemd units")?;
        serde_json::from_value(data[0].clone()).context("Failed to read the list of units")
    }

    /// The units that are not inactive.
    pub(crate) fn active(&self) -> Result<Active> {
        Ok(self.units()?.iter().filter_map(|unit| active_unit(unit)).collect())
    }

    /// Waits until units have stopped changing.
    pub(crate) fn settle(&self) -> Result<Active> {
        let limit = Instant::now() + SETTLE_LIMIT;
        let mut before = self.units()?;
        loop {
            std::thread::sleep(SETTLE_STEP);
            let now = self.units()?;
            if now == before || Instant::now() >= limit {
                return Ok(now.iter().filter_map(|unit| active_unit(unit)).collect());
            }
            before = now;
        }
    }

    /// Whether a unit is running, or about to.
    pub(crate) fn is_active(&self, unit: &str) -> Result<bool> {
        Ok(matches!(self.property(unit, "ActiveState")?.as_str(), "active" | "activating"))
    }

    /// Whether the last main process of a unit has failed.
    pub(crate) fn has_failed_before(&self, unit: &str) -> Result<bool> {
        Ok(self.property(unit, "ExecMainStatus")? != "0")
    }

    fn property(&self, unit: &str, name: &str) -> Result<String> {
        let output = self
            .command("systemctl")
            .args(["show", "--value", "--property", name, "--", unit])
            .output()
            .with_context(|| format!("Failed to get {name} for {unit}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Has jobs done and waits for them. Says and returns what has failed.
    pub(crate) fn jobs(&self, verb: &str, units: &BTreeSet<String>) -> Result<bool> {
        if units.is_empty() {
            return Ok(true);
        }
        let output = self
            .command("systemctl")
            .args([verb, "--no-ask-password", "--"])
            .args(units)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("Failed to {verb} units"))?;
        let failures = job_failures(&String::from_utf8_lossy(&output.stderr));
        for failure in &failures {
            say(&match failure {
                Failure::Job(unit) => format!("Failed to {verb} {unit}"),
                Failure::Other(line) => line.clone(),
            });
        }
        // Jobs that something else has taken away are no failures.
        Ok(failures.is_empty())
    }

    /// A command that takes no units: daemon-reload, reset-failed.
    pub(crate) fn manage(&self, verb: &str) -> Result<()> {
        let status =
            self.command("systemctl").arg(verb).status().with_context(|| format!("Failed to {verb}"))?;
        if !status.success() {
            bail!("Failed to {verb}");
        }
        Ok(())
    }

    /// Has systemd replace itself, and waits until it answers again.
    pub(crate) fn reexecute(&self) -> Result<()> {
        let limit = Instant::now() + REEXEC_LIMIT;
        _ = self.command("systemctl").arg("daemon-reexec").status();
        while self.units().is_err() {
            if Instant::now() >= limit {
                bail!("systemd does not answer {} s after it was re-executed", REEXEC_LIMIT.as_secs());
            }
            std::thread::sleep(SETTLE_STEP);
        }
        Ok(())
    }

    /// Shows the state of units.
    pub(crate) fn show_status<'a>(&self, units: impl IntoIterator<Item = &'a String>) {
        _ = self.command("systemctl").args(["status", "--no-pager", "--full"]).args(units).status();
    }

    /// Who is logged in.
    pub(crate) fn users(&self) -> Result<Vec<LoggedIn>> {
        let [service, object, interface] = LOGIN;
        let data = self.bus(&["call", service, object, interface, "ListUsers"])?;
        let users: Vec<(u32, String, String)> = serde_json::from_value(data[0].clone())?;
        let property = |path: &str, name: &str| {
            self.bus(&["get-property", service, path, "org.freedesktop.login1.User", name])
        };
        users
            .into_iter()
            .map(|(uid, name, path)| {
                let gid = property(&path, "GID")?.as_u64().and_then(|gid| u32::try_from(gid).ok());
                let runtime = property(&path, "RuntimePath")?.as_str().map(str::to_owned);
                Ok(LoggedIn {
                    uid,
                    gid: gid.with_context(|| format!("Failed to get GID for {name}"))?,
                    runtime: runtime
                        .with_context(|| format!("Failed to get runtime directory for {name}"))?,
                    name,
                })
            })
            .collect()
    }
}

/// What went wrong with a job.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// A unit's job has failed, timed out, or lacked something that it depends on.
    Job(String),
    /// Anything else that systemctl complains of.
    Other(String),
}

/// What systemctl says on its standard error, told apart.
fn job_failures(text: &str) -> Vec<Failure> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("Job for ").or_else(|| line.strip_prefix("A dependency job for "));
            if let Some((unit, rest)) = rest.and_then(|rest| rest.split_once(' ')) {
                return rest.starts_with("failed").then(|| Failure::Job(unit.to_owned()));
            }
            line.starts_with("Failed to ").then(|| Failure::Other(line.to_owned()))
        })
        .collect()
}

/// A row of systemd's list, if it is a unit of its own and not inactive.
fn active_unit(row: &[Value]) -> Option<(String, UnitState)> {
    let text = |index: usize| row.get(index).and_then(Value::as_str);
    let (name, active, sub, following) = (text(0)?, text(3)?, text(4)?, text(5)?);
    let state = UnitState { active: active.to_owned(), sub: sub.to_owned() };
    (following.is_empty() && active != "inactive").then(|| (name.to_owned(), state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_jobs_are_told_from_cancelled_ones() {
        let text = "Job for a.service failed because the control process exited with error code.\n\
            See \"systemctl status a.service\" and \"journalctl -xeu a.service\" for details.\n\
            A dependency job for b.service failed. See 'journalctl -xe' for details.\n\
            Job for c.service canceled.\n\
            Failed to start d.service: Unit d.service not found.\n";
        assert_eq!(
            job_failures(text),
            [
                Failure::Job("a.service".into()),
                Failure::Job("b.service".into()),
                Failure::Other("Failed to start d.service: Unit d.service not found.".into()),
            ]
        );
    }

    #[test]
    fn units_that_follow_another_or_are_inactive_are_left_out() {
        let row = |name: &str, active: &str, following: &str| -> Vec<Value> {
            [name, "", "loaded", active, "running", following].map(Value::from).to_vec()
        };
        assert!(active_unit(&row("a.service", "active", "")).is_some());
        assert!(active_unit(&row("a.service", "inactive", "")).is_none());
        assert!(active_unit(&row("a.device", "active", "b.device")).is_none());
    }
}

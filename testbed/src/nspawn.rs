//! A machine that runs: systemd-nspawn in a control group of its own, started again when the machine reboots. The one that
//! starts it again is a few lines of shell, so that a machine does not depend on the program that made it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use crate::cache;
use crate::cgroup::Cgroup;
use crate::net::{namespace, namespace_path};
use crate::tools::tool;

/// systemd-nspawn returns 133 when the machine wants to boot anew.
const LOOP: &str = r#"
group=$1 shadow=$2; shift 2
echo 0 > "$group/cgroup.procs" || exit 1
boot=0
while :; do
  boot=$((boot + 1))
  # A machine in its predecessor's groups gets services killed at random.
  mkdir "$group/boot$boot" || exit 1
  (echo 0 > "$group/boot$boot/cgroup.procs" && exec "$@") </dev/null
  status=$?
  find "$group/boot$boot" ${shadow:+"$shadow/boot$boot"} -depth -type d -exec rmdir {} \; 2>/dev/null
  [ $status = 133 ] || break
  echo "-- reboot --"
done
echo "-- off ($status) --"
"#;

/// What a machine is started with.
pub(crate) struct Machine<'a> {
    pub(crate) lab: &'a str,
    pub(crate) name: &'a str,
    pub(crate) index: u16,
    pub(crate) root: &'a Path,
    pub(crate) console: &'a Path,
    pub(crate) cgroup: &'a Cgroup,
    /// The program that is to be its first process; none for what a Debian has.
    pub(crate) init: Option<&'a str>,
}

/// Starts a machine. It goes on when this process ends.
pub(crate) fn start(machine: &Machine) -> Result<()> {
    machine.cgroup.create()?;
    let console = File::options().create(true).append(true).open(machine.console);
    let console = console.with_context(|| format!("can't open {}", machine.console.display()))?;
    let mut folders = machine.cgroup.folders();
    let group = folders.next().unwrap_or(Path::new(""));
    let shadow = folders.next().unwrap_or(Path::new(""));

    let network = namespace_path(&namespace(machine.lab, machine.index));
    let mut supervisor = tool("sh");
    supervisor
        .args(["-c", LOOP, "sh"])
        .args([group, shadow])
        .args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe"])
        .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off", "--capability=CAP_NET_ADMIN"])
        .arg(format!("--machine={}", full_name(machine.lab, machine.name)))
        .arg(format!("--hostname={}", machine.name))
        .arg(format!("--network-namespace-path={}", network.display()))
        .arg(format!("--directory={}", machine.root.display()));
    match machine.init {
        None => supervisor.arg("--boot"),
        Some(init) => supervisor.args(["--kill-signal=SIGRTMIN+3", init]),
    };
    supervisor
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        // One machine per folder is what a lab sees to, and a power cut leaves the lock behind.
        .env("SYSTEMD_NSPAWN_LOCK", "0")
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console);
    spawn(&mut supervisor)
}

/// Starts what may go on when this process ends, and must not get its signals from the keyboard.
pub(crate) fn spawn(command: &mut Command) -> Result<()> {
    command.process_group(0);
    let mut child = command.spawn().with_context(|| format!("can't start {}", crate::run::show(command)))?;
    // Somebody must take its status, or it stays as a zombie for as long as this process lives.
    thread::spawn(move || child.wait());
    Ok(())
}

/// A machine's name on the machine below, where all labs' machines are side by side.
fn full_name(lab: &str, host: &str) -> String {
    format!("{lab}-{host}")
}

/// Removes what systemd-nspawn leaves behind when it is killed.
pub(crate) fn clean_up(lab: &str, host: Option<&str>) -> Result<()> {
    let ours = |name: &str| match host {
        Some(host) => name == full_name(lab, host),
        None => name.starts_with(&full_name(lab, "")),
    };
    for folder in ["propagate", "unix-export"] {
        let Ok(entries) = fs::read_dir(Path::new("/run/systemd/nspawn").join(folder)) else { continue };
        for entry in entries {
            let entry = entry?;
            if ours(&entry.file_name().to_string_lossy()) {
                crate::disk::unmount_soon(&entry.path())?;
                cache::remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

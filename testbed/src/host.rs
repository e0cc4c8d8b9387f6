//! One machine of a lab, and what can happen to it. All of it happens from outside: the machine is never asked to help.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Cgroup;
use crate::disk::Disk;
use crate::faults::{Fault, Faults};
use crate::net::{self, Socket};
use crate::run::{ok, run, tail};
use crate::state::{self, HostRecord};
use crate::tools::tool;
use crate::{emulated, nspawn};

/// What a command on a host may take where nothing else is said.
const COMMAND: Duration = Duration::from_secs(60);
/// How much of the console an error shows.
const LAST_LINES: usize = 25;

/// Enters a host's namespaces, and its root with the first of them.
const KEYBOARD: &str = r#"
echo 0 > "$1" && exec nsenter --target "$2" --mount --uts --ipc --net --pid --cgroup --root --wd=/ \
  env -i HOME=/root PATH=/run/current-system/sw/bin:/usr/bin:/bin:/usr/sbin:/sbin sh -c "$3"
"#;

/// What becomes of what a host has written and not synced when its power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// It is on the disk nevertheless; but an emulated host has it in a memory of its own, and loses it.
    Kept,
    /// It is lost. Needs a host with a disk of its own.
    Lost,
}

/// One machine of a lab.
#[derive(Debug)]
pub struct Host {
    lab: String,
    record: HostRecord,
    folder: PathBuf,
    root: PathBuf,
    disk: Disk,
    cgroup: Cgroup,
    faults: Faults,
}

impl Host {
    pub(crate) fn new(lab: &str, record: &HostRecord) -> Result<Self> {
        let folder = state::path(lab).join("hosts").join(&record.name);
        let disk = Disk::new(&folder, record);
        Ok(Self {
            lab: lab.into(),
            record: record.clone(),
            root: disk.root(),
            folder,
            disk,
            cgroup: Cgroup::of(&[lab, &format!("host-{}", record.index)])?,
            faults: Faults::of(lab),
        })
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Its name, by which it is also reached in the lab's network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        net::address(self.record.index)
    }

    /// Its root as seen from outside. What is read there while it runs is what the machine itself would read. An emulated
    /// host's root is seen by nobody but its own kernel: there is no such folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The public key by which its sshd is known, as a line of `ssh-ed25519 …`.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn public_key(&self) -> Result<String> {
        let path = state::path(&self.lab).join("keys").join(format!("{}.pub", self.name()));
        fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
    }

    /// Runs a shell script on the host as root, over ssh, within a minute.
    ///
    /// # Errors
    /// Where that time is over. That ssh or the script failed is in the output's status.
    pub fn ssh(&self, script: &str) -> Result<Output> {
        self.ssh_within(script, COMMAND)
    }

    /// As [`Self::ssh`], with a limit.
    ///
    /// # Errors
    /// Where the time is over.
    pub fn ssh_within(&self, script: &str, limit: Duration) -> Result<Output> {
        let config = state::path(&self.lab).join("operator/ssh/config");
        let mut ssh = net::command(&self.lab, "ssh");
        ssh.arg("-F").arg(config).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--"]);
        ssh.args([self.name(), script]);
        run(&mut ssh, limit).with_context(|| format!("on {}; {}", self.name(), self.where_to_look()))
    }

    /// Runs a script as [`Self::ssh`] does, takes nothing but success, and returns its standard output.
    ///
    /// # Errors
    /// Where it fails, with what it said.
    pub fn ssh_ok(&self, script: &str) -> Result<String> {
        ok(&format!("`{script}` on {}", self.name()), self.ssh(script)?)
    }

    /// Runs a shell script on the host as root, as one who sits before it: without any network. Takes nothing but success,
    /// and returns its standard output.
    ///
    /// # Errors
    /// Where it fails, with what it said, or takes more than a minute; where the host is switched off, or emulated.
    pub fn at_keyboard(&self, script: &str) -> Result<String> {
        let group = self.cgroup.below("init.scope").into_iter().next();
        let first = group.as_ref().and_then(|group| group.processes().into_iter().min());
        let (Some(group), Some(first)) = (group, first) else {
            bail!("{} has no keyboard: it is switched off, or emulated", self.name());
        };
        let mut shell = tool("sh");
        // In a group of the host's own, so that what is left over ends with it.
        shell.args(["-c", KEYBOARD, "sh"]).arg(group.procs()).args([&first.to_string(), script]);
        let output = run(&mut shell, COMMAND)
            .with_context(|| format!("at the keyboard of {}; {}", self.name(), self.where_to_look()))?;
        ok(&format!("`{script}` at the keyboard of {}", self.name()), output)
    }

    /// Opens a connection from the operator's place to a port of the host.
    ///
    /// # Errors
    /// Where there is none within the limit.
    pub fn connect(&self, port: u16, limit: Duration) -> Result<TcpStream> {
        net::within(&self.lab, || {
            TcpStream::connect_timeout(&SocketAddr::new(self.address(), port), limit)
                .with_context(|| format!("no connection to {} port {port}", self.name()))
        })
    }

    /// Pulls the cable out.
    ///
    /// # Errors
    /// Where the lab's network can't be changed, as for all that follow.
    pub fn cut(&self) -> Result<()> {
        self.faults.set(self.record.index, Fault::Cut)
    }

    /// Makes the host's network whole again: takes back every fault of it that is told here.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn heal(&self) -> Result<()> {
        self.faults.heal(self.record.index)
    }

    /// What others send no longer comes to the host; what it sends arrives.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn drop_to(&self) -> Result<()> {
        self.faults.set(self.record.index, Fault::To)
    }

    /// What the host sends no longer arrives; what others send comes to it.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn drop_from(&self) -> Result<()> {
        self.faults.set(self.record.index, Fault::From)
    }

    /// Nothing passes any more between two hosts; both reach all others.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn partition_from(&self, other: &Self) -> Result<()> {
        if self.lab != other.lab {
            bail!("{} and {} are in different labs, and never meet", self.name(), other.name());
        }
        self.faults.set(self.record.index, Fault::Apart(other.record.index))
    }

    /// Puts the host behind a router as at home: it connects to whom it likes, and nobody connects to it, not even ssh. It
    /// stays there, whatever is healed. [`Self::at_keyboard`] still gets in.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn behind_nat(&self) -> Result<()> {
        self.faults.set(self.record.index, Fault::Nat)
    }

    /// Makes the cable longer: every frame takes that much more, each way. Zero takes it back.
    ///
    /// # Errors
    /// As [`Self::cut`], and where the delaying program is not built.
    pub fn delay(&self, by: Duration) -> Result<()> {
        let micros = u64::try_from(by.as_micros()).context("no cable is as long as that")?;
        self.set_or_clear(Fault::Delay(micros), micros == 0)
    }

    /// Lets no more than that many kilobits a second through, each way. Zero takes it back.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn bandwidth(&self, kilobits: u32) -> Result<()> {
        self.set_or_clear(Fault::Bandwidth(kilobits), kilobits == 0)
    }

    /// Loses so many of a hundred frames, each way. Zero takes it back.
    ///
    /// # Errors
    /// As [`Self::cut`], and for more than a hundred.
    pub fn loss(&self, percent: u8) -> Result<()> {
        if percent > 100 {
            bail!("{percent} of a hundred frames can't be lost");
        }
        self.set_or_clear(Fault::Loss(percent), percent == 0)
    }

    fn set_or_clear(&self, fault: Fault, clear: bool) -> Result<()> {
        let index = self.record.index;
        if clear { self.faults.clear(index, fault) } else { self.faults.set(index, fault) }
    }

    /// Kills what is in the host's units whose names begin so, from outside: all of it, or only the processes of one
    /// program, by the name of its file. How many units had something to kill.
    ///
    /// # Errors
    /// Where a group can't be written to.
    pub fn kill_units(&self, prefix: &str, program: Option<&str>) -> Result<usize> {
        let groups = self.cgroup.below(prefix);
        let mut struck = 0;
        for group in &groups {
            let Some(program) = program else {
                group.strike()?;
                struck += 1;
                continue;
            };
            let is = |id: &u32| {
                fs::read_link(format!("/proc/{id}/exe"))
                    .is_ok_and(|path| path.file_name() == Some(program.as_ref()))
            };
            let ids: Vec<u32> = group.processes().into_iter().filter(is).collect();
            for id in &ids {
                if let Some(id) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
                    // It may have ended by itself.
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            struck += usize::from(!ids.is_empty());
        }
        Ok(struck)
    }

    /// The host's files as its own first process sees them, /run and other file systems in memory too. `None` while it is
    /// switched off.
    #[must_use]
    pub fn inside(&self) -> Option<PathBuf> {
        let first = self.cgroup.below("init.scope").first()?.processes().into_iter().min()?;
        Some(format!("/proc/{first}/root").into())
    }

    /// Whether something is at work in a unit of the host whose name begins so.
    #[must_use]
    pub fn unit_is_alive(&self, prefix: &str) -> bool {
        !self.cgroup.below(prefix).is_empty()
    }

    /// Stops every process of the host where it is, as a hung machine does: connections stay open and nobody answers.
    ///
    /// # Errors
    /// Where it can't be stopped in time.
    pub fn freeze(&self) -> Result<()> {
        self.cgroup.freeze(true)
    }

    /// Lets a frozen host go on.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.cgroup.freeze(false)
    }

    /// Cuts the power. The network sees nothing of it but silence.
    ///
    /// # Errors
    /// Where something of the machine is still there after that, or it has no disk that could lose anything.
    pub fn power_cut(&self, unsynced: Unsynced) -> Result<()> {
        let index = self.record.index;
        if unsynced == Unsynced::Lost {
            self.disk.lose_unsynced()?;
        }
        // First of all the cable: nobody is to be told that connections end.
        net::unplug(&self.lab, index)?;
        self.cgroup.kill()?;
        nspawn::clean_up(&self.lab, Some(self.name()))?;
        if unsynced == Unsynced::Lost {
            self.disk.find_again()?;
        }
        Ok(())
    }

    /// Switches the host on. What was wrong with its network still is. Does not wait: [`Self::wait_for_ssh`] does.
    ///
    /// # Errors
    /// Where it runs already, or can't be started.
    pub fn boot(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} is running already", self.name());
        }
        // A host that has switched itself off still has its cable and its groups.
        net::unplug(&self.lab, self.record.index)?;
        self.cgroup.kill()?;
        let socket = if self.record.emulated.is_some() { Socket::Tap } else { Socket::Interface };
        self.faults.plug(self.record.index, socket)?;
        self.start().with_context(|| format!("can't boot {}", self.name()))?;
        // From here on it counts as running.
        crate::run::until(COMMAND, Duration::from_millis(1), || {
            if self.is_running() {
                Ok(())
            } else {
                bail!("{} did not start; {}", self.name(), self.where_to_look())
            }
        })
    }

    fn start(&self) -> Result<()> {
        let console = self.console_log();
        match &self.record.emulated {
            Some(emulated) => emulated.start(&emulated::Machine {
                lab: &self.lab,
                index: self.record.index,
                folder: &self.folder,
                console: &console,
                cgroup: &self.cgroup,
            }),
            None => nspawn::start(&nspawn::Machine {
                lab: &self.lab,
                name: self.name(),
                index: self.record.index,
                root: self.root(),
                console: &console,
                cgroup: &self.cgroup,
                init: self.record.init.as_deref(),
            }),
        }
    }

    /// Whether it is switched on, be it frozen or cut off.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.cgroup.populated()
    }

    /// Waits until its sshd answers in the lab's network.
    ///
    /// # Errors
    /// Where it is switched off, or has not answered in time: with the end of its console's log.
    pub fn wait_for_ssh(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        net::within(&self.lab, || {
            loop {
                let left = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(10));
                let Err(error) = net::greets(self.address(), left.min(Duration::from_secs(1))) else {
                    return Ok(());
                };
                let running = self.is_running();
                if !running || start.elapsed() > limit {
                    let state = if running { "does not answer" } else { "is switched off" };
                    return Err(error).with_context(|| {
                        format!(
                            "{} {state} after {:.1?}; {}",
                            self.name(),
                            start.elapsed(),
                            self.where_to_look()
                        )
                    });
                }
                thread::sleep(Duration::from_millis(5));
            }
        })
    }

    /// Waits until everything that starts with the machine has started.
    ///
    /// # Errors
    /// Where that has not happened in time, or something failed.
    pub fn wait_for_boot(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        self.wait_for_ssh(limit)?;
        let script = "systemctl is-system-running --wait || { systemctl --failed --plain >&2; exit 1; }";
        let output = self.ssh_within(script, limit.saturating_sub(start.elapsed()))?;
        ok(&format!("the boot of {}", self.name()), output).map(drop)
    }

    /// Leaves no block free on the host's own disk.
    ///
    /// # Errors
    /// Where it has none.
    pub fn fill_disk(&self) -> Result<()> {
        self.disk.fill()
    }

    /// Frees what [`Self::fill_disk`] took.
    ///
    /// # Errors
    /// Where that fails.
    pub fn free_disk(&self) -> Result<()> {
        self.disk.free()
    }

    /// Where all that the host has said on its console is kept.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The last lines that the host said on its console.
    #[must_use]
    pub fn console(&self) -> String {
        let said = fs::read(self.console_log()).unwrap_or_default();
        tail(&String::from_utf8_lossy(&said), LAST_LINES)
    }

    fn where_to_look(&self) -> String {
        format!("its console ({}) ends with:\n{}", self.console_log().display(), self.console())
    }
}

//! What can be wrong with a host's network: cut, one way only, apart from another host, lossy, narrow, slow. And where it
//! can stand by itself: behind a router that lets nothing in.
//!
//! Each fault is a small file in the lab's folder, so that it outlives a power cut and is seen by other processes; what the
//! kernel does is made from those files. Must never act from within a host.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Lock;
use crate::cgroup::Cgroup;
use crate::net::{self, BRIDGE, Socket, hardware, namespace, port};
use crate::run::{SHORT, feed, ok, run_ok, until};
use crate::state;
use crate::{delay, tools};

/// How long a delaying program may take to be at its work.
const START: Duration = Duration::from_secs(10);

/// What the names of the TAP devices begin with that are on the far side of a slowed host's delaying program.
const FAR: &str = "far";

/// What the files begin with that say that a host lets nothing in.
const NAT: &str = "nat-";

/// One fault of a host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The cable is out.
    Cut,
    /// What others send does not come.
    To,
    /// What it sends does not arrive.
    From,
    /// Nothing passes between it and another host.
    Apart(u16),
    /// It can connect to others, and nobody to it. No fault: it is not healed.
    Nat,
    /// So many of a hundred frames are lost, each way.
    Loss(u8),
    /// So many kilobits a second, each way.
    Bandwidth(u32),
    /// Every frame takes so many microseconds longer, each way.
    Delay(u64),
}

impl Fault {
    fn file(self, index: u16) -> String {
        match self {
            Self::Cut => format!("cut-{index}"),
            Self::To => format!("to-{index}"),
            Self::From => format!("from-{index}"),
            Self::Apart(other) => format!("apart-{}-{}", index.min(other), index.max(other)),
            Self::Nat => format!("{NAT}{index}"),
            Self::Loss(_) => format!("loss-{index}"),
            Self::Bandwidth(_) => format!("bandwidth-{index}"),
            Self::Delay(_) => format!("delay-{index}"),
        }
    }

    /// The rules of the bridge's filter, or, for what is no rule, the amount.
    fn contents(self, index: u16) -> String {
        let mac = hardware(index);
        match self {
            Self::Cut => String::new(),
            Self::To => format!("ether daddr {mac} drop"),
            Self::From => format!("ether saddr {mac} drop"),
            Self::Apart(other) => {
                let other = hardware(other);
                format!(
                    "ether saddr {mac} ether daddr {other} drop\nether saddr {other} ether daddr {mac} drop"
                )
            }
            // What begins something is let out and not in, and answers pass; it takes no memory of connections.
            Self::Nat => ["tcp flags & (syn | ack) == syn", "meta l4proto udp", "icmp type echo-request"]
                .map(|first| format!("ether daddr {mac} {first} drop"))
                .join("\n"),
            Self::Loss(100..) => ["saddr", "daddr"].map(|end| format!("ether {end} {mac} drop")).join("\n"),
            Self::Loss(percent) => ["saddr", "daddr"]
                .map(|end| format!("ether {end} {mac} numgen random mod 100 < {percent} drop"))
                .join("\n"),
            Self::Bandwidth(kilobits) => kilobits.to_string(),
            Self::Delay(micros) => micros.to_string(),
        }
    }
}

/// The faults of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    lab: String,
    folder: PathBuf,
}

impl Faults {
    pub(crate) fn of(lab: &str) -> Self {
        Self { lab: lab.into(), folder: state::path(lab).join("faults") }
    }

    pub(crate) fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("can't create {}", self.folder.display()))
    }

    /// Puts a fault in force.
    pub(crate) fn set(&self, index: u16, fault: Fault) -> Result<()> {
        let _lock = self.lock()?;
        fs::write(self.folder.join(fault.file(index)), fault.contents(index))
            .context("can't note the fault in the lab's folder")?;
        self.enforce(index, fault)
    }

    /// Takes a fault back.
    pub(crate) fn clear(&self, index: u16, fault: Fault) -> Result<()> {
        let _lock = self.lock()?;
        self.forget(&fault.file(index))?;
        self.enforce(index, fault)
    }

    /// Takes back all that is wrong with a host's network.
    pub(crate) fn heal(&self, index: u16) -> Result<()> {
        let _lock = self.lock()?;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(NAT) {
                continue;
            }
            if name.split('-').skip(1).any(|part| part == index.to_string()) {
                self.forget(&name)?;
            }
        }
        for fault in [Fault::To, Fault::Bandwidth(0), Fault::Delay(0), Fault::Cut] {
            self.enforce(index, fault)?;
        }
        Ok(())
    }

    /// Makes a host's namespace and cable as its faults say.
    pub(crate) fn plug(&self, index: u16, socket: Socket) -> Result<()> {
        let _lock = self.lock()?;
        let bridge = if self.amount("delay", index)?.is_some() { slow_bridge(index) } else { BRIDGE.into() };
        net::plug(&self.lab, index, socket, &bridge, !self.folder.join(Fault::Cut.file(index)).exists())?;
        if self.amount("bandwidth", index)?.is_some() {
            self.narrow(index)?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock> {
        Lock::wait(&state::path(&self.lab).join("faults.lock"))
    }

    fn forget(&self, file: &str) -> Result<()> {
        let path = self.folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn amount(&self, what: &str, index: u16) -> Result<Option<u64>> {
        let path = self.folder.join(format!("{what}-{index}"));
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        text.parse().map(Some).with_context(|| format!("{} holds no number", path.display()))
    }

    fn enforce(&self, index: u16, fault: Fault) -> Result<()> {
        match fault {
            Fault::Cut => self.set_link(index),
            Fault::To | Fault::From | Fault::Apart(_) | Fault::Nat | Fault::Loss(_) => self.filter(),
            // A host that is off has no cable that could be narrow; it is made narrow when it boots.
            Fault::Bandwidth(_) if !net::namespace_path(&namespace(&self.lab, index)).exists() => Ok(()),
            Fault::Bandwidth(_) => self.narrow(index),
            Fault::Delay(_) => self.slow(index),
        }
    }

    fn set_link(&self, index: u16) -> Result<()> {
        let port = port(index);
        if !net::exists(&self.lab, &port) {
            return Ok(());
        }
        let state = if self.folder.join(Fault::Cut.file(index)).exists() { "down" } else { "up" };
        net::ip(Some(&self.lab), &format!("link set {port} {state}\n"))
    }

    /// The whole filter at once, from all files that hold rules.
    fn filter(&self) -> Result<()> {
        let mut rules = String::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if ["to-", "from-", "apart-", NAT, "loss-"].iter().any(|kind| name.starts_with(kind)) {
                rules.push_str(&fs::read_to_string(&path)?);
                rules.push('\n');
            }
        }
        // A slowed host's frames also pass its own small bridge, where they are not to be judged again.
        let mut table = String::from("table bridge lab {}\ndelete table bridge lab\ntable bridge lab {\n");
        for hook in ["forward", "input", "output"] {
            writeln!(
                table,
                "chain at_{hook} {{ type filter hook {hook} priority 0; policy accept;\n\
                 iifname \"{FAR}*\" accept\noifname \"{FAR}*\" accept\n{rules}}}"
            )?;
        }
        table.push_str("}\n");
        let mut nft = net::command(&self.lab, "nft");
        nft.args(["-f", "-"]);
        ok("`nft` in the lab's network", feed(&mut nft, Some(table.as_bytes()), SHORT)?).map(drop)
    }

    fn narrow(&self, index: u16) -> Result<()> {
        let kilobits = self.amount("bandwidth", index)?;
        for (namespace, interface) in
            [(self.lab.clone(), port(index)), (namespace(&self.lab, index), "eth0".to_owned())]
        {
            let mut tc = tools::tool("tc");
            tc.args(["-n", &namespace, "qdisc"]);
            match kilobits {
                Some(kilobits) => {
                    tc.args([
                        "replace",
                        "dev",
                        &interface,
                        "root",
                        "tbf",
                        "rate",
                        &format!("{kilobits}kbit"),
                    ]);
                    tc.args(["burst", "16kb", "latency", "400ms"]);
                    run_ok(&mut tc, SHORT)?;
                }
                // Where it was not narrow there is nothing to take back, which `tc` takes for a failure.
                None => drop(crate::run::run(tc.args(["del", "dev", &interface, "root"]), SHORT)?),
            }
        }
        Ok(())
    }

    /// Puts two TAP devices with a delaying program between them into a host's cable, or takes them out.
    fn slow(&self, index: u16) -> Result<()> {
        let (lab, bridge) = (&self.lab, slow_bridge(index));
        let (near, far) = (format!("near{index}"), format!("{FAR}{index}"));
        let cgroup = Cgroup::of(&[lab, &format!("delay-{index}")])?;
        cgroup.kill()?;
        let plugged = net::exists(lab, &port(index));
        if net::exists(lab, &bridge) {
            if plugged {
                net::ip(Some(lab), &format!("link set {} master {BRIDGE}\n", port(index)))?;
            }
            net::ip(Some(lab), &format!("link del {near}\nlink del {far}\nlink del {bridge}\n"))?;
        }
        let Some(micros) = self.amount("delay", index)? else { return Ok(()) };

        let program = delay::program()?;
        // The small bridge must not answer in the lab's name: its answers would take a way around the delay.
        let mut lines = format!(
            "tuntap add dev {near} mode tap\ntuntap add dev {far} mode tap\n\
             link add {bridge} type bridge\nlink set {bridge} arp off addrgenmode none up\n\
             link set {near} master {BRIDGE} up\nlink set {far} master {bridge} up\n"
        );
        if plugged {
            writeln!(lines, "link set {} master {bridge}", port(index))?;
        }
        net::ip(Some(lab), &lines)?;
        cgroup.create()?;
        let log = state::path(lab).join(format!("delay-{index}.log"));
        let said = fs::File::create(&log).with_context(|| format!("can't create {}", log.display()))?;
        let mut delayer = tools::tool("sh");
        delayer
            .args(["-c", r#"echo 0 > "$1" && shift && exec "$@""#, "sh"])
            .arg(cgroup.procs())
            .args(["ip", "netns", "exec", lab])
            .arg(&program)
            .args(["delay-frames", &near, &far, &micros.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        crate::nspawn::spawn(&mut delayer)?;
        until(START, Duration::from_millis(2), || self.carries(&near, &far, &log))
    }

    /// A TAP device has a carrier while a program holds it open.
    fn carries(&self, near: &str, far: &str, log: &Path) -> Result<()> {
        for tap in [near, far] {
            let mut ip = tools::tool("ip");
            ip.args(["-n", &self.lab, "-o", "link", "show", "dev", tap]);
            if !run_ok(&mut ip, SHORT)?.contains("LOWER_UP") {
                bail!(
                    "the delaying program did not take up {tap} within {START:?}; it said:\n{}",
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
        }
        Ok(())
    }
}

fn slow_bridge(index: u16) -> String {
    format!("d{index}")
}

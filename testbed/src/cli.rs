//! Labs by hand: `lab up 3`, `lab ssh host1`, `lab cut host1`, `lab down`. Each command is a thin call of what tests call.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::{Guest, Host, Lab, LabSpec, Loader, Unsynced, delay_frames, require_root, sweep};

/// How long a host that was booted by hand may take.
const BOOT: Duration = Duration::from_secs(300);

#[derive(Debug, Parser)]
#[command(name = "bosco-lab", about = "Boots fleets of real machines on this one")]
struct Line {
    #[command(flatten)]
    lab: LabArgs,
}

/// The arguments of the command line, for a program that has it as a part.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Which lab, where there is more than one (or set BOSCO_LAB)
    #[arg(long, global = true, value_name = "LAB")]
    lab: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a lab that lasts until `down`
    Up {
        /// How many hosts, or their names
        #[arg(required = true, value_name = "NUMBER|NAME")]
        hosts: Vec<String>,
        /// Give each a disk of its own, which can be full and lose what was not synced
        #[arg(long, value_name = "MIB")]
        own_disk: Option<u64>,
        /// Machines with Debian and Nix, that are no NixOS
        #[arg(long)]
        debian: bool,
        /// Emulated machines, with a kernel and this boot loader of their own
        #[arg(long, value_name = "LOADER")]
        emulated: Option<Loader>,
    },
    /// Show the labs that are up, and their hosts
    List,
    /// Run a command on a host, or log in
    Ssh {
        /// The host
        host: String,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Pull a host's cable out
    Cut {
        /// The host
        host: String,
    },
    /// Put a host behind a router that lets nothing in; `heal` leaves it there
    Nat {
        /// The host
        host: String,
    },
    /// Take back all that is wrong with a host's network
    Heal {
        /// The host
        host: String,
    },
    /// What others send does not come to a host
    DropTo {
        /// The host
        host: String,
    },
    /// What a host sends does not arrive
    DropFrom {
        /// The host
        host: String,
    },
    /// Nothing passes between two hosts
    Partition {
        /// One
        host: String,
        /// The other
        other: String,
    },
    /// Make every frame of a host that much later, each way
    Delay {
        /// The host
        host: String,
        /// Milliseconds; 0 takes it back
        milliseconds: u64,
    },
    /// Lose some of a host's frames, each way
    Loss {
        /// The host
        host: String,
        /// So many of a hundred; 0 takes it back
        percent: u8,
    },
    /// Make a host's cable narrow, each way
    Bandwidth {
        /// The host
        host: String,
        /// Kilobits a second; 0 takes it back
        kilobits: u32,
    },
    /// Stop a host where it is
    Freeze {
        /// The host
        host: String,
    },
    /// Let a frozen host go on
    Thaw {
        /// The host
        host: String,
    },
    /// Cut a host's power
    PowerCut {
        /// The host
        host: String,
        /// What it had not synced is lost
        #[arg(long)]
        lose_unsynced: bool,
    },
    /// Switch a host on, and wait for its sshd
    Boot {
        /// The host
        host: String,
    },
    /// Take all the space on a host's own disk
    FillDisk {
        /// The host
        host: String,
    },
    /// Give it back
    FreeDisk {
        /// The host
        host: String,
    },
    /// Show the end of a host's console
    Console {
        /// The host
        host: String,
    },
    /// The operator's shell, or a command of theirs, in the lab's network
    Shell {
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Take a lab down
    Down,
    /// Remove what killed runs have left, and what of the cache is not used any more
    Sweep,
    /// Carry frames between two TAP devices, later
    #[command(hide = true)]
    DelayFrames {
        /// One device
        near: String,
        /// The other
        far: String,
        /// By how much
        microseconds: u64,
    },
}

/// Runs the command line.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Line::try_parse_from(args) {
        Ok(line) => run(line.lab),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Does what was asked, and says on the standard error what went wrong.
#[must_use]
pub fn run(args: LabArgs) -> ExitCode {
    match act(args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: LabArgs) -> Result<ExitCode> {
    if let Command::DelayFrames { near, far, microseconds } = &args.command {
        delay_frames(near, far, Duration::from_micros(*microseconds))?;
        return Ok(ExitCode::SUCCESS);
    }
    require_root()?;
    let id = args.lab.or_else(|| std::env::var("BOSCO_LAB").ok());
    let id = id.as_deref();
    let on = |name: &str, act: fn(&Host) -> Result<()>| act(Lab::attach(id)?.host(name)?);
    match args.command {
        Command::Up { hosts, own_disk, debian, emulated } => up(&hosts, own_disk, debian, emulated)?,
        Command::List => list()?,
        Command::Ssh { host, command } => return ssh(&Lab::attach(id)?, &host, command),
        Command::Cut { host } => on(&host, Host::cut)?,
        Command::Nat { host } => on(&host, Host::behind_nat)?,
        Command::Heal { host } => on(&host, Host::heal)?,
        Command::DropTo { host } => on(&host, Host::drop_to)?,
        Command::DropFrom { host } => on(&host, Host::drop_from)?,
        Command::Partition { host, other } => {
            let lab = Lab::attach(id)?;
            lab.host(&host)?.partition_from(lab.host(&other)?)?;
        }
        Command::Delay { host, milliseconds } => {
            Lab::attach(id)?.host(&host)?.delay(Duration::from_millis(milliseconds))?;
        }
        Command::Loss { host, percent } => Lab::attach(id)?.host(&host)?.loss(percent)?,
        Command::Bandwidth { host, kilobits } => Lab::attach(id)?.host(&host)?.bandwidth(kilobits)?,
        Command::Freeze { host } => on(&host, Host::freeze)?,
        Command::Thaw { host } => on(&host, Host::thaw)?,
        Command::PowerCut { host, lose_unsynced } => {
            let unsynced = if lose_unsynced { Unsynced::Lost } else { Unsynced::Kept };
            Lab::attach(id)?.host(&host)?.power_cut(unsynced)?;
        }
        Command::Boot { host } => on(&host, |host| host.boot().and_then(|()| host.wait_for_ssh(BOOT)))?,
        Command::FillDisk { host } => on(&host, Host::fill_disk)?,
        Command::FreeDisk { host } => on(&host, Host::free_disk)?,
        Command::Console { host } => say(&Lab::attach(id)?.host(&host)?.console())?,
        Command::Shell { command } => return shell(&Lab::attach(id)?, command),
        Command::Down => Lab::attach(id)?.down()?,
        Command::Sweep => return swept(),
        Command::DelayFrames { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Who reads no further has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn up(hosts: &[String], own_disk: Option<u64>, debian: bool, emulated: Option<Loader>) -> Result<()> {
    let mut spec = match hosts {
        [one] if one.chars().all(|c| c.is_ascii_digit()) => LabSpec::new(one.parse()?),
        names => LabSpec::named(names),
    };
    if let Some(loader) = emulated {
        spec = spec.all_emulated(loader);
    }
    let spec = spec.guest(if debian { Guest::Debian } else { Guest::NixOs }).lasting();
    let lab = Lab::up(&own_disk.map_or(spec.clone(), |mib| spec.own_disk(mib)))?;
    show(&lab)
}

fn list() -> Result<()> {
    Lab::lasting()?.iter().try_for_each(|id| show(&Lab::attach(Some(id))?))
}

fn show(lab: &Lab) -> Result<()> {
    say(lab.id())?;
    for host in lab.hosts() {
        let state = if host.is_running() { "on" } else { "off" };
        say(&format!("  {:<16} {:<12} {state}", host.name(), host.address().to_string()))?;
    }
    Ok(())
}

fn ssh(lab: &Lab, host: &str, command: Vec<OsString>) -> Result<ExitCode> {
    let mut ssh = lab.operator().command("ssh");
    ssh.arg("-F").arg(lab.operator().ssh_config()).arg("--").arg(lab.host(host)?.name()).args(command);
    // From here on this process is that one, with its terminal and its status.
    Err(ssh.exec().into())
}

fn shell(lab: &Lab, command: Vec<OsString>) -> Result<ExitCode> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut words = command.into_iter();
    let mut shell = lab.operator().command(words.next().unwrap_or(shell));
    Err(shell.args(words).exec().into())
}

fn swept() -> Result<ExitCode> {
    let swept = sweep()?;
    for lab in &swept.labs {
        say(&format!("removed the lab {lab}"))?;
    }
    for unused in &swept.unused {
        say(&format!("removed {unused} from the cache"))?;
    }
    if let Some((lab, error)) = swept.failed.into_iter().next() {
        bail!("can't remove all of {lab}: {error:#}");
    }
    Ok(ExitCode::SUCCESS)
}

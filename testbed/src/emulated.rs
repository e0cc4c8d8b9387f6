//! A machine with a kernel and a boot loader of its own: qemu, without any help of the processor's, in the host's control
//! group and namespace. It is plugged into the host's cable by a TAP device, so all that can be wrong with a network is the
//! same for it. Must never be made where nobody asks for one: it takes packages, space and time.

mod guest;
mod image;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::disk::IMAGE;
use crate::net::{OPERATOR, TAP, address_in_network, hardware, namespace};
use crate::run::{SHORT, run_ok};
use crate::tools::tool;

/// The firmware of a machine with EFI; beside it is what its variables begin as.
pub(crate) const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const EMPTY_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The files in a host's folder: the disk with the loader, beside the one with the root, and the firmware's memory.
const BOOT_DISK: &str = "boot.img";
const VARIABLES: &str = "variables.fd";
/// What a machine has of memory, in MiB: enough to build small systems.
const MEMORY: &str = "1024";

/// In the machine's control group until it switches itself off. A machine that resets, whoever does it, is started anew: its
/// firmware takes ten times as long in a memory that has been used. What it ended with, qemu says on its monitor.
const RUN: &str = r#"
echo 0 > "$1/cgroup.procs" || exit 1
folder=$2
shift 2
rm -f "$folder/monitor.in"
mkfifo "$folder/monitor.in" || exit 1
exec 3<> "$folder/monitor.in"
while :; do
  echo '{"execute": "qmp_capabilities"}' >&3
  "$@" -action reboot=shutdown -qmp stdio <&3 > "$folder/monitor.out"
  status=$?
  [ $status = 0 ] && grep -q '"reason": "guest-reset"' "$folder/monitor.out" || break
  echo "-- reboot --"
done
echo "-- off ($status) --"
"#;

/// What starts the kernel of an emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
pub enum Loader {
    /// systemd-boot, on a machine with EFI.
    SystemdBoot,
    /// GRUB, on a machine with a BIOS.
    Grub,
}

/// An emulated host, as far as it has to be known again by another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Emulated {
    loader: Loader,
    /// What its disks are copies of.
    image: PathBuf,
}

/// What an emulated machine is started with.
pub(crate) struct Machine<'a> {
    pub(crate) lab: &'a str,
    pub(crate) index: u16,
    /// Where its disks are.
    pub(crate) folder: &'a Path,
    pub(crate) console: &'a Path,
    pub(crate) cgroup: &'a Cgroup,
}

impl Emulated {
    /// A freshly installed host with that loader.
    pub(crate) fn of(loader: Loader) -> Result<Self> {
        Ok(Self { loader, image: image::image(loader)? })
    }

    /// Gives a host disks of its own.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<()> {
        for disk in [BOOT_DISK, IMAGE] {
            let mut copy = tool("cp");
            copy.args(["--sparse=always", "--reflink=auto"])
                .arg(self.image.join(disk))
                .arg(folder.join(disk));
            run_ok(&mut copy, SHORT)?;
        }
        if self.loader == Loader::SystemdBoot {
            fs::copy(EMPTY_VARIABLES, folder.join(VARIABLES))
                .context("can't copy the firmware's variables")?;
        }
        Ok(())
    }

    /// Switches the machine on. It goes on when this process ends.
    pub(crate) fn start(&self, machine: &Machine) -> Result<()> {
        machine.cgroup.create()?;
        let console = File::options().create(true).append(true).open(machine.console);
        let console = console.with_context(|| format!("can't open {}", machine.console.display()))?;
        let mut supervisor = tool("sh");
        supervisor.args(["-c", RUN, "sh"]).args(machine.cgroup.folders().next()).arg(machine.folder);
        supervisor.args(["ip", "netns", "exec", &namespace(machine.lab, machine.index)]);
        // Without graphics, a BIOS and what runs on it write to the console.
        supervisor.args(["qemu-system-x86_64", "-accel", "tcg", "-machine", "pc,graphics=off", "-m", MEMORY]);
        // Without a source of random numbers sshd would wait for one.
        supervisor.args(["-cpu", "qemu64,+rdrand,+rdseed"]);
        supervisor.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        supervisor
            .arg("-chardev")
            .arg(format!("file,id=console,append=on,path={}", escaped(machine.console)));
        supervisor.args(["-serial", "chardev:console"]);
        supervisor.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        if self.loader == Loader::SystemdBoot {
            let variables = escaped(&machine.folder.join(VARIABLES));
            let flash = "if=pflash,format=raw";
            supervisor.arg("-drive").arg(format!("{flash},unit=0,readonly=on,file={FIRMWARE}"));
            supervisor.arg("-drive").arg(format!("{flash},unit=1,file={variables}"));
        }
        for (index, disk) in [BOOT_DISK, IMAGE].into_iter().enumerate() {
            // What qemu has written is in the memory of the machine below, which no power cut here touches.
            let file = escaped(&machine.folder.join(disk));
            supervisor
                .arg("-drive")
                .arg(format!("if=none,id=disk{index},format=raw,cache=unsafe,file={file}"))
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive=disk{index},bootindex={index}"));
        }
        supervisor
            .arg("-netdev")
            .arg(format!("tap,id=cable,ifname={TAP},script=no,downscript=no"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=cable,romfile=,mac={}", hardware(machine.index)));
        for (name, value) in
            [("address", address_in_network(machine.index)), ("gateway", OPERATOR.to_string())]
        {
            supervisor.arg("-fw_cfg").arg(format!("name=opt/bosco/{name},string={value}"));
        }
        supervisor.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        crate::nspawn::spawn(&mut supervisor)
    }
}

/// A path among the options of qemu, where a comma ends one.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

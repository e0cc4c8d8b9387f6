//! The two requests to the kernel that no safe interface has. Nothing else of the testbed may be unsafe.
#![expect(unsafe_code, reason = "ioctl takes pointers; each block says why its own is sound")]

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::ioctl::{Setter, ioctl, opcode};

/// `EXT4_IOC_SHUTDOWN` with this value drops all that has not been synced, the journal's too.
const NO_LOG_FLUSH: u32 = 2;
const SHUTDOWN: u32 = opcode::read::<u32>(b'X', 125);
const SET_INTERFACE: u32 = opcode::write::<i32>(b'T', 202);
const TAP: u16 = 0x0002;
const NO_PACKET_INFORMATION: u16 = 0x1000;

/// `struct ifreq`, as far as it is used here.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Ends an ext4 file system as a power cut would: what was not synced is lost, and nothing is written any more.
pub(crate) fn shut_down_file_system(mounted: &Path) -> Result<()> {
    let folder = File::open(mounted).with_context(|| format!("can't open {}", mounted.display()))?;
    // SAFETY: the kernel reads one u32 through the pointer, which is what Setter<SHUTDOWN, u32> passes.
    let done = unsafe { ioctl(&folder, Setter::<{ SHUTDOWN }, u32>::new(NO_LOG_FLUSH)) };
    done.with_context(|| format!("can't shut down the file system at {}", mounted.display()))
}

/// Opens a TAP device of this network namespace: each read and write is one Ethernet frame.
pub(crate) fn open_tap(name: &str) -> Result<File> {
    let mut request = InterfaceRequest { name: [0; 16], flags: TAP | NO_PACKET_INFORMATION, rest: [0; 22] };
    if name.len() >= request.name.len() {
        bail!("{name} is too long for the name of a network interface");
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let tun =
        File::options().read(true).write(true).open("/dev/net/tun").context("can't open /dev/net/tun")?;
    // SAFETY: the kernel copies one struct ifreq (40 bytes) through the pointer, which InterfaceRequest is laid out as.
    let done = unsafe { ioctl(&tun, Setter::<{ SET_INTERFACE }, InterfaceRequest>::new(request)) };
    done.with_context(|| format!("can't attach to the TAP device {name}"))?;
    Ok(tun)
}

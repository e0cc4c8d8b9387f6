//! A lab's network: a namespace with a bridge and no way out, and a namespace of its own for each host, joined to it by a
//! cable. Addresses are given from outside, so that no configuration of a host can lose them. Must never touch the
//! machine's own network.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::{SHORT, feed, ok, show};
use crate::state::{self, HostRecord};
use crate::tools::tool;

const NAMESPACES: &str = "/run/netns";
/// Where `ip netns exec` finds what takes the place of files in /etc.
const CONFIGURATION: &str = "/etc/netns";
pub(crate) const BRIDGE: &str = "br0";
/// What an emulated machine is plugged into, in its own namespace.
pub(crate) const TAP: &str = "tap0";

/// The address of a lab's own end of the bridge, which is the operator's.
pub(crate) const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A host's address.
pub(crate) fn address(index: u16) -> IpAddr {
    // The first 250 are 10.77.1.1 and up, the next 10.77.2.1 and up.
    let index = index.saturating_sub(1);
    let [high, low] = [index / 250 + 1, index % 250 + 1].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
    Ipv4Addr::new(10, 77, high, low).into()
}

/// A host's hardware address. It is the same after each power cut: another one is not found for most of a minute.
pub(crate) fn hardware(index: u16) -> String {
    let [high, low] = index.to_be_bytes();
    format!("52:54:00:77:{high:02x}:{low:02x}")
}

/// The name of a host's namespace.
pub(crate) fn namespace(lab: &str, index: u16) -> String {
    format!("{lab}-{index}")
}

/// The lab's end of a host's cable.
pub(crate) fn port(index: u16) -> String {
    format!("p{index}")
}

/// Where a namespace can be opened.
pub(crate) fn namespace_path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

/// Runs lines of `ip`, in a namespace or in the machine's own.
pub(crate) fn ip(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut ip = tool("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    ip.args(["-batch", "-"]);
    let output = feed(&mut ip, Some(lines.as_bytes()), SHORT)?;
    ok(&format!("{} of\n{lines}", show(&ip)), output).map(drop)
}

/// Makes the lab's namespace with its bridge, and the names of its hosts in it.
pub(crate) fn create(lab: &str, hosts: &[HostRecord]) -> Result<()> {
    let mut names = format!("127.0.0.1 localhost\n{OPERATOR} operator\n");
    for host in hosts {
        writeln!(names, "{} {}", address(host.index), host.name)?;
    }
    let configuration = Path::new(CONFIGURATION).join(lab);
    fs::create_dir_all(&configuration)
        .with_context(|| format!("can't create {}", configuration.display()))?;
    fs::write(configuration.join("hosts"), names)?;
    // No server for any other name, so that none is waited for.
    fs::write(configuration.join("resolv.conf"), "")?;
    {
        // The first namespace of all changes how the folder is mounted, which two at once can't do.
        let _lock = state::lock()?;
        ip(None, &format!("netns add {lab}\n"))?;
    }
    // The bridge's own address must not change with what is joined to it.
    let lines = format!(
        "link set lo up\nlink add {BRIDGE} address 52:54:00:77:ff:ff type bridge\n\
         addr add {OPERATOR}/16 dev {BRIDGE}\nlink set {BRIDGE} up\n"
    );
    ip(Some(lab), &lines)
}

/// What a host's cable ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// The interface that the machine sees, as it shares the kernel.
    Interface,
    /// A TAP device, [`TAP`], for an emulated machine: its own kernel has the addresses.
    Tap,
}

/// Makes a host's namespace and its cable to the bridge that is named.
pub(crate) fn plug(lab: &str, index: u16, socket: Socket, bridge: &str, up: bool) -> Result<()> {
    let (own, port) = (namespace(lab, index), port(index));
    ip(None, &format!("netns add {own}\n"))?;
    let state = if up { "up" } else { "down" };
    let address = match socket {
        Socket::Interface => format!("address {}", hardware(index)),
        // Any but the machine's: a bridge keeps for itself what is sent to one of its own.
        Socket::Tap => String::new(),
    };
    let lines = format!(
        "link add {port} type veth peer name eth0 {address} netns {own}\n\
         link set {port} master {bridge} {state}\n"
    );
    ip(Some(lab), &lines)?;
    let lines = match socket {
        Socket::Interface => format!(
            "link set lo up\nlink set eth0 up\naddr add {} dev eth0\nroute add default via {OPERATOR}\n",
            address_in_network(index)
        ),
        Socket::Tap => format!(
            "link add {BRIDGE} type bridge\nlink set {BRIDGE} arp off addrgenmode none up\n\
             tuntap add dev {TAP} mode tap\nlink set {TAP} addrgenmode none\n\
             link set {TAP} master {BRIDGE} up\n\
             link set eth0 addrgenmode none\nlink set eth0 master {BRIDGE} up\n"
        ),
    };
    ip(Some(&own), &lines)
}

/// A host's address with the length of the network's prefix.
pub(crate) fn address_in_network(index: u16) -> String {
    format!("{}/16", address(index))
}

/// Removes a host's namespace, and its cable with it.
pub(crate) fn unplug(lab: &str, index: u16) -> Result<()> {
    // The cable first: with the namespace it would go a moment later, and be in the way of the next one until then.
    let port = port(index);
    if exists(lab, &port) {
        ip(Some(lab), &format!("link del {port}\n"))?;
    }
    delete(&namespace(lab, index))
}

/// Whether a lab's namespace has an interface of that name.
pub(crate) fn exists(lab: &str, interface: &str) -> bool {
    let mut ip = tool("ip");
    ip.args(["-n", lab, "link", "show", "dev", interface]);
    crate::run::run(&mut ip, SHORT).is_ok_and(|output| output.status.success())
}

/// Removes a namespace's name. What still runs in it keeps it until it ends.
fn delete(name: &str) -> Result<()> {
    let path = namespace_path(name);
    if !path.exists() {
        return Ok(());
    }
    // Where it is not mounted it is a file that was left over.
    let _ = unmount(&path, UnmountFlags::DETACH);
    fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))
}

/// Removes all that a lab has of the network.
pub(crate) fn remove(lab: &str) -> Result<()> {
    if let Ok(entries) = fs::read_dir(NAMESPACES) {
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == lab || name.strip_prefix(lab).is_some_and(|rest| rest.starts_with('-')) {
                delete(&name)?;
            }
        }
    }
    crate::cache::remove(&Path::new(CONFIGURATION).join(lab))
}

/// A command in a lab's network.
pub(crate) fn command(lab: &str, program: &str) -> Command {
    let mut command = tool("ip");
    command.args(["netns", "exec", lab, program]);
    command
}

/// Runs something in a lab's network, in a thread of its own: a connection that it opens stays in that network.
pub(crate) fn within<T: Send>(lab: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = namespace_path(lab);
    let namespace = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("can't enter the lab's network")?;
            act()
        });
        there.join().map_err(|_| anyhow!("a thread in the lab's network ended with a panic"))?
    })
}

/// Whether an ssh server greets at an address. Must be called in the lab's network.
pub(crate) fn greets(address: IpAddr, limit: Duration) -> Result<()> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, 22), limit)
        .with_context(|| format!("no connection to {address} port 22"))?;
    stream.set_read_timeout(Some(limit))?;
    let mut greeting = [0; 4];
    (&stream).read_exact(&mut greeting).with_context(|| format!("{address} port 22 says nothing"))?;
    (&greeting == b"SSH-")
        .then_some(())
        .with_context(|| format!("what answers at {address} port 22 is no sshd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 1..1000 {
            assert!(seen.insert(address(index)), "{index}");
        }
        assert!(!seen.contains(&IpAddr::from(OPERATOR)));
        assert_eq!(hardware(258), "52:54:00:77:01:02");
    }
}

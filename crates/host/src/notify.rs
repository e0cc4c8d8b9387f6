//! Telling systemd that a service is there.

use std::os::unix::net::UnixDatagram;

/// Says that the service can be asked now, where systemd wants to know (`sd_notify`).
pub fn ready() {
    tell("READY=1");
}

/// Says that the service is alive, where systemd wants to know.
pub fn alive() {
    tell("WATCHDOG=1");
}

fn tell(what: &str) {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else { return };
    let Ok(from) = UnixDatagram::unbound() else { return };
    let _ = match socket.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| from.send_to_addr(what.as_bytes(), &address))
        }
        None => from.send_to(what.as_bytes(), socket),
    };
}

//! An agent's connection to the hub: SSH by russh, as the agent has no user whose ssh could be asked.
//!
//! One connection has one purpose. What flows through russh is credited when it has arrived, not when it is read, and a
//! session waits for whoever reads slowly; two streams in one connection would wait for each other.

use std::sync::Arc;
use std::time::Duration;

use bosco_release::Key;
use russh::Preferred;
use russh::cipher::AES_256_GCM;
use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::api::HTTP;
use crate::http::Http;
use crate::line::Line;
use crate::stream::Stream;

/// How long a connection may take to be there, from the name to the login.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the other side may be silent until it is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How often, before it counts as gone.
const UNANSWERED: usize = 3;
/// The window of a connection for little: what the hub may send without being read.
const NARROW: u32 = 64 * 1024;
/// The window of a connection for much; at 50 ms that is 160 MB/s.
const WIDE: u32 = 8 * 1024 * 1024;
/// The socket's own buffer for much. A window that does not fit into it can make both sides wait for each other.
const SOCKET: u32 = 16 * 1024 * 1024;

/// What both sides propose to each other: russh's own, and among ciphers AES first where the processor does it itself. There it
/// is several times as fast as ChaCha20, and elsewhere it is slower.
#[must_use]
pub fn preferred() -> Preferred {
    let mut ciphers = Preferred::DEFAULT.cipher.into_owned();
    if has_aes() {
        ciphers.sort_by_key(|name| *name != AES_256_GCM);
    }
    Preferred { cipher: ciphers.into(), ..Preferred::DEFAULT }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// How much a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Questions and answers.
    Narrow,
    /// Closures.
    Wide,
}

/// A hub, and who connects to it.
#[derive(Clone)]
pub struct Hub {
    /// `HOST:PORT`.
    pub address: String,
    /// The keys that it may have; with none, whatever it has is taken, and told by [`Link::hub_key`].
    pub keys: Vec<Key>,
    /// Who connects.
    pub identity: Arc<PrivateKey>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Nobody answers there.
    #[error("can't connect to the hub at {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// In words.
        why: String,
    },
    /// Somebody else answers there.
    #[error(
        "{address} is not the hub: its key is {found}; if the hub has a new key, root has to say so on the host"
    )]
    OtherKey {
        /// Where.
        address: String,
        /// Whose key it is.
        found: String,
    },
    /// The hub does not know this key.
    #[error("the hub at {address} does not know this machine's key {key}")]
    NotKnown {
        /// Where.
        address: String,
        /// Which.
        key: String,
    },
    /// It broke.
    #[error("the connection to the hub broke: {0}")]
    Broken(String),
}

/// A connection to the hub.
pub struct Link {
    handle: Handle<Pinned>,
    _end: End,
    hub_key: Option<Key>,
}

/// Ends a connection with what it belongs to, wherever it has got to: also one that was given up on before it was one.
struct End(Line);

impl Drop for End {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// Takes the hub's keys, and no others.
struct Pinned {
    keys: Vec<Key>,
    found: Arc<std::sync::OnceLock<Key>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let Ok(key) = Key::of(key) else { return Ok(false) };
        let known = self.keys.is_empty() || self.keys.contains(&key);
        let _ = self.found.set(key);
        Ok(known)
    }
}

impl Hub {
    /// Connects, and logs in as `user`: a name that says no more than what the connection is for.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn connect(&self, user: &str, width: Width) -> Result<Link, LinkError> {
        let broken = |why: &dyn std::fmt::Display| LinkError::Unreachable {
            address: self.address.clone(),
            why: why.to_string(),
        };
        match timeout(CONNECT, self.log_in(user, width)).await {
            Ok(came) => came,
            Err(_) => Err(broken(&format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    async fn log_in(&self, user: &str, width: Width) -> Result<Link, LinkError> {
        let unreachable = |why: String| LinkError::Unreachable { address: self.address.clone(), why };
        let stream = self.socket(width).await.map_err(|error| unreachable(error.to_string()))?;
        let line = Line::new(stream);
        let end = End(line.clone());
        let found = Arc::new(std::sync::OnceLock::new());
        let pinned = Pinned { keys: self.keys.clone(), found: Arc::clone(&found) };
        let window_size = if width == Width::Wide { WIDE } else { NARROW };
        let config = client::Config {
            window_size,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: UNANSWERED,
            nodelay: true,
            preferred: preferred(),
            ..client::Config::default()
        };
        let connected = client::connect_stream(Arc::new(config), line, pinned).await;
        let mut handle = match (connected, found.get()) {
            (Ok(handle), _) => handle,
            (Err(_), Some(key)) if !self.keys.is_empty() && !self.keys.contains(key) => {
                return Err(LinkError::OtherKey { address: self.address.clone(), found: key.fingerprint() });
            }
            (Err(error), _) => return Err(unreachable(error.to_string())),
        };
        let identity =
            PrivateKeyWithHashAlg::new(Arc::clone(&self.identity), Some(russh::keys::HashAlg::Sha512));
        let login = handle.authenticate_publickey(user, identity).await;
        if !login.map_err(|error| unreachable(error.to_string()))?.success() {
            let key = self.identity.public_key().fingerprint(russh::keys::HashAlg::Sha256).to_string();
            return Err(LinkError::NotKnown { address: self.address.clone(), key });
        }
        Ok(Link { handle, _end: end, hub_key: found.get().cloned() })
    }

    async fn socket(&self, width: Width) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host(&self.address).await? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if width == Width::Wide {
                // Where the system allows less, it gives less.
                let _ = socket.set_recv_buffer_size(SOCKET);
            }
            match socket.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Link {
    /// The key that the hub has.
    #[must_use]
    pub fn hub_key(&self) -> Option<&Key> {
        self.hub_key.as_ref()
    }

    /// A stream to something inside the hub.
    ///
    /// # Errors
    /// [`LinkError::Broken`], also where the hub does not give it.
    pub async fn open(&self, name: &str, port: u32) -> Result<Stream, LinkError> {
        let channel = self.handle.channel_open_direct_tcpip(name, port, "127.0.0.1", 0);
        let channel = timeout(CONNECT, channel).await.map_err(|_| LinkError::Broken("no answer".into()))?;
        Ok(Stream::new(channel.map_err(|error| LinkError::Broken(error.to_string()))?))
    }

    /// The hub's HTTP.
    ///
    /// # Errors
    /// [`LinkError::Broken`].
    pub async fn http(&self) -> Result<Http, LinkError> {
        let stream = self.open(HTTP.0, HTTP.1).await?;
        Http::over(stream).await.map_err(|error| LinkError::Broken(error.to_string()))
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Says good-bye.
    pub async fn close(self) {
        let goodbye = self.handle.disconnect(russh::Disconnect::ByApplication, "", "");
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }
}

//! The always-on side of bosco: one port, an SSH server of its own, and what hosts and operators reach through it.

mod api;
mod authority;
mod builds;
mod configs;
mod hub;
mod joins;
mod keep;
mod logins;
mod objects;
mod ratchet;
mod server;
mod sessions;
pub mod sftp;
mod standing;
mod store;
mod visits;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bosco_release::{FleetFile, Key};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::{LineEnding, private::Ed25519Keypair};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub use store::StoreError;

/// What a hub is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub's folder.
    pub state: PathBuf,
    /// Where it listens: `ADDRESS:PORT`.
    pub listen: String,
    /// The fleet's `bosco.toml`; read again when the process is sent SIGHUP.
    pub fleet: PathBuf,
}

/// Why the hub can't be.
#[derive(Debug, Error)]
pub enum Error {
    /// The disk said no.
    #[error("{}: {why}", place.display())]
    Disk {
        /// Where.
        place: PathBuf,
        /// In words.
        why: String,
    },
    /// Its key can't be used.
    #[error("the hub's key can't be used: {0}")]
    Key(String),
    /// `bosco.toml` is wrong.
    #[error("{}: {why}", file.display())]
    Fleet {
        /// The file.
        file: PathBuf,
        /// In words.
        why: String,
    },
    /// The port is taken, say.
    #[error("can't listen at {address}: {why}")]
    Listen {
        /// Where.
        address: String,
        /// In words.
        why: String,
    },
    /// Its memory.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    pub(crate) fn disk(place: &Path, error: &io::Error) -> Self {
        Self::Disk { place: place.to_owned(), why: error.to_string() }
    }
}

/// A line for who looks after the hub.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The hub's own key; it is made where there is none.
///
/// # Errors
/// [`Error`].
pub fn key(state: &Path) -> Result<Key, Error> {
    Key::of(private_key(state)?.public_key()).map_err(|error| Error::Key(error.to_string()))
}

fn private_key(state: &Path) -> Result<PrivateKey, Error> {
    let place = state.join("host_key");
    let disk = |error: io::Error| Error::disk(&place, &error);
    let wrong = |error: russh::keys::ssh_key::Error| Error::Key(error.to_string());
    match fs::read(&place) {
        Ok(text) => return PrivateKey::from_openssh(&text).map_err(wrong),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(error)),
        Err(_) => {}
    }
    fs::create_dir_all(state).map_err(|error| Error::disk(state, &error))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::Key(error.to_string()))?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    let text = key.to_openssh(LineEnding::LF).map_err(wrong)?;
    // Whole, or not there: it is what every host knows the hub by.
    let making = state.join("host_key.new");
    let _ = fs::remove_file(&making);
    let mut file =
        fs::File::options().write(true).create_new(true).mode(0o600).open(&making).map_err(disk)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(disk)?;
    fs::rename(&making, &place).map_err(disk)?;
    fs::File::open(state).and_then(|folder| folder.sync_all()).map_err(disk)?;
    Ok(key)
}

/// Takes the hub's folder for this process, until that ends.
fn lock(state: &Path) -> Result<fs::File, Error> {
    use rustix::fs::{FlockOperation, flock};
    let place = state.join("lock");
    let file = fs::File::options().create(true).append(true).mode(0o600).open(&place);
    let file = file.map_err(|error| Error::disk(&place, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Disk {
        place: state.to_owned(),
        why: "another `bosco hub` is at this folder".into(),
    })?;
    Ok(file)
}

fn fleet(file: &Path) -> Result<FleetFile, Error> {
    let wrong = |why: String| Error::Fleet { file: file.to_owned(), why };
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    FleetFile::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// A hub that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its key.
    pub key: Key,
    hub: Arc<hub::Hub>,
    door: JoinHandle<()>,
    /// One hub has the folder.
    _lock: fs::File,
}

/// Starts a hub. It runs in the background, for as long as the runtime does.
///
/// # Errors
/// [`Error`] where it can't begin.
pub async fn start(settings: &Settings) -> Result<Running, Error> {
    let listen =
        |error: io::Error| Error::Listen { address: settings.listen.clone(), why: error.to_string() };
    let fleet = fleet(&settings.fleet)?;
    let key = private_key(&settings.state)?;
    // Nothing is touched before it is certain that nobody else is at it.
    let lock = lock(&settings.state)?;
    let listener = TcpListener::bind(&settings.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let hub = hub::Hub::open(&settings.state, key, fleet).await?;
    let door = tokio::spawn(server::serve(Arc::clone(&hub), listener));
    tokio::spawn(Arc::clone(&hub).remember());
    tokio::spawn(keep::keep(Arc::clone(&hub)));
    tokio::spawn(configs::lay_out_all(Arc::clone(&hub)));
    Ok(Running { address, key: hub.public.clone(), hub, door, _lock: lock })
}

impl Running {
    /// Reads the fleet's `bosco.toml` again. Whoever it lets in no more is sent away.
    ///
    /// # Errors
    /// [`Error::Fleet`]; the fleet is run as before then.
    pub async fn reload(&self, settings: &Settings) -> Result<(), Error> {
        self.hub.set_fleet(fleet(&settings.fleet)?).await;
        Ok(())
    }

    /// Throws away what is past its time at a moment, in seconds since 1970; the hub does so by itself every hour.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tidy(&self, now: u64) -> Result<(), Error> {
        keep::tidy(&self.hub, now).await
    }

    /// Lets nobody in any more, and writes down what is only in memory.
    pub async fn end(self) {
        self.door.abort();
        self.hub.sessions.end(|_| false).await;
        self.hub.write_down().await;
    }
}

/// Runs a hub until the process is told to end.
///
/// # Errors
/// [`Error`] where it can't begin.
pub async fn run(settings: &Settings) -> Result<(), Error> {
    let on = |kind| signal(kind).map_err(|error| Error::disk(&settings.state, &error));
    let mut end = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut reload = on(SignalKind::hangup())?;
    let running = start(settings).await?;
    say(&format!("bosco hub: listens at {}; its key is {}", running.address, running.key));
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => {
                if let Err(error) = running.reload(settings).await {
                    say(&format!("bosco hub: {error}; the fleet is run as before"));
                }
            }
        }
    }
    running.end().await;
    Ok(())
}

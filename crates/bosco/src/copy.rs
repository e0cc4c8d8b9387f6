//! Handing paths over to hosts: what each lacks, from its own caches where that is sooner, or else from here.

mod mend;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bosco_activation::Shortage;
use bosco_model::{HostName, StorePath};
use bosco_nix::{Nix, PathInfo, Store};
use bosco_session::Session;
use tokio::sync::Semaphore;

use crate::event::{Event, Sink, Stage};
use crate::fleet::failed;
use crate::outcome::Outcome;
use crate::reach::troubled;

/// How often the progress of a copy is told.
const TELL: Duration = Duration::from_millis(250);
/// How many hosts are copied to at once.
const COPIES: usize = 10;
/// How many bytes of paths that a cache has signed a host has to lack before it is told to look in its own caches first:
/// fewer are there sooner from here.
const SUBSTITUTE: u64 = 1024 * 1024;
/// How much is read and sent at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// What all copies of a command share.
#[derive(Clone)]
pub(crate) struct Copier {
    nix: Nix,
    events: Sink,
    /// Whether hosts are told to look in their own caches.
    substitutes: bool,
    copies: Arc<Semaphore>,
}

impl Copier {
    pub(crate) fn new(nix: Nix, events: Sink, substitutes: bool) -> Self {
        Self { nix, events, substitutes, copies: Arc::new(Semaphore::new(COPIES)) }
    }

    /// Which of these paths the host does not have. They are kept there from now on, as far as the session knows them.
    pub(crate) async fn lacking(
        &self,
        paths: &[StorePath],
        session: &mut Session,
    ) -> Result<Vec<StorePath>, Outcome> {
        session.missing(paths).await.map_err(|error| troubled(Stage::Copy, &error))
    }

    /// Brings paths, which are in the store here, with all that they need to a host that has so many bytes free.
    pub(crate) async fn copy(
        &self,
        host: &HostName,
        wanted: &[StorePath],
        free: Option<u64>,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        if wanted.is_empty() {
            return Ok(());
        }
        let nix_says = |error: bosco_nix::Error| failed(Stage::Copy, &error);
        let permit = self.copies.acquire().await;
        let store = self.nix.store_here().map_err(nix_says)?;
        let (store, mut closure) = store.closure(wanted).await.map_err(nix_says)?;
        let paths: Vec<StorePath> = closure.iter().map(|info| info.path.clone()).collect();
        keep(&mut closure, self.lacking(&paths, session).await?);
        if let Some(shortage) = bosco_activation::shortage(free, size(&closure)) {
            return Err(no_room(&shortage));
        }
        drop(permit);
        let cached = if self.substitutes { worth_substituting(&closure) } else { Vec::new() };
        if !cached.is_empty() {
            let (paths, of) = (cached.len(), size(&cached));
            (self.events)(Event::Fetching { host: host.clone(), paths, of });
            let asked: Vec<StorePath> = cached.into_iter().map(|info| info.path).collect();
            let lacking = session.substitute(&asked, of).await;
            let lacking = lacking.map_err(|error| troubled(Stage::Copy, &error))?;
            let (asked, lacking): (HashSet<_>, HashSet<_>) =
                (asked.into_iter().collect(), lacking.into_iter().collect());
            closure.retain(|info| !asked.contains(&info.path) || lacking.contains(&info.path));
        }
        if closure.is_empty() {
            return Ok(());
        }
        let _permit = self.copies.acquire().await;
        self.send(host, store, closure, session).await
    }

    /// Sends paths, and tells how far it is.
    async fn send(
        &self,
        host: &HostName,
        store: Store,
        paths: Vec<PathInfo>,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let (count, of) = (paths.len(), size(&paths));
        let tell = |bytes: u64| {
            (self.events)(Event::Copied { host: host.clone(), paths: count, bytes: bytes.min(of), of });
        };
        tell(0);
        let mut delivery = store.deliver(paths);
        session.import(delivery.answer()).await;
        let (mut told, mut sent) = (Instant::now(), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = delivery.read(&mut buffer).await.map_err(|error| failed(Stage::Copy, &error))?;
            // The host that has stopped taking them knows why.
            if read == 0 || !session.pass(&buffer[..read]).await {
                break;
            }
            sent += read as u64;
            if told.elapsed() >= TELL {
                told = Instant::now();
                tell(sent);
            }
        }
        session.imported().await.map_err(|error| troubled(Stage::Copy, &error))?;
        tell(of);
        Ok(())
    }
}

fn no_room(shortage: &Shortage) -> Outcome {
    let hint = "`nix-collect-garbage --delete-older-than 30d` there frees what old generations need";
    Outcome::failed(Stage::Copy, shortage.to_string(), Some(hint.into()))
}

/// Leaves of some paths those that are named.
fn keep(infos: &mut Vec<PathInfo>, named: Vec<StorePath>) {
    let named: HashSet<StorePath> = named.into_iter().collect();
    infos.retain(|info| named.contains(&info.path));
}

/// How many bytes paths have.
fn size(infos: &[PathInfo]) -> u64 {
    infos.iter().map(|info| info.size).sum()
}

/// Of what a host lacks, what it is told to look for in its own caches first: what a cache has signed, if that is much.
fn worth_substituting(lacking: &[PathInfo]) -> Vec<PathInfo> {
    let signed: Vec<PathInfo> = lacking.iter().filter(|info| !info.signatures.is_empty()).cloned().collect();
    if size(&signed) < SUBSTITUTE { Vec::new() } else { signed }
}

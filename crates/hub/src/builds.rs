//! Building on the hub: what an operator has evaluated is built in the store here and kept as archives, so that hosts fetch it
//! as anything else. Nothing is evaluated here.
//!
//! A derivation is built by one job, however many wait for it. A job goes on where nobody waits any more: whoever asks again
//! finds it, or what Nix has made meanwhile.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bosco_model::{DerivationPath, StorePath};
use bosco_nix::{Archives, LogLine, Nix, PathInfo, Taking, contents, references_first};
use bosco_release::{Contents, Digest};
use bosco_wire::api::{Build, Building};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::hub::{Hub, now};
use crate::objects::Unkept;
use crate::store::StoreError;

/// How many jobs run side by side, each with as many builds as Nix is set to.
const JOBS: usize = 2;
/// How many jobs there may be, those that wait for their turn among them.
const MOST: usize = 10_000;
/// How much is read at once, in bytes.
const PIECE: usize = 256 * 1024;
/// How much is told of why something was not built, in bytes.
const WHY: usize = 16 * 1024;
/// Where what is being built is rooted, below the hub's folder.
const ROOTS: &str = "builds";

/// What is being built.
pub(crate) struct Builds {
    running: Mutex<HashMap<DerivationPath, watch::Receiver<Building>>>,
    turns: Semaphore,
}

/// Why something is not built.
#[derive(Debug, Error)]
enum Unbuilt {
    #[error("{0}")]
    Nix(#[from] bosco_nix::Error),
    #[error("the hub's disk: {0}")]
    Disk(#[from] std::io::Error),
    #[error("the hub's memory: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unkept(#[from] Unkept),
    #[error("{0}")]
    Other(String),
}

impl Default for Builds {
    fn default() -> Self {
        Self { running: Mutex::default(), turns: Semaphore::new(JOBS) }
    }
}

/// How a build stands, which is begun where it is not under way. `None` where there are too many.
pub(crate) fn ask(hub: &Arc<Hub>, build: Build) -> Option<watch::Receiver<Building>> {
    let mut running = hub.builds.running.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(job) = running.get(&build.derivation) {
        return Some(job.clone());
    }
    if running.len() >= MOST {
        return None;
    }
    let (tell, told) = watch::channel(Building::Waiting);
    running.insert(build.derivation.clone(), told.clone());
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        let ended = match job(&hub, &build, &tell).await {
            Ok(closure) => Building::Built { closure },
            Err(error) => {
                let why = last(&error.to_string());
                crate::say(&format!("bosco hub: {} is not built: {why}", build.toplevel));
                Building::Failed { why }
            }
        };
        hub.builds.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&build.derivation);
        tell.send_replace(ended);
    });
    Some(told)
}

/// The end of what Nix said, where its error stands.
fn last(text: &str) -> String {
    let from = text.len().saturating_sub(WHY);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.split_at(from).1.to_owned()
}

/// Builds, keeps, and gives the digest of the closure.
async fn job(hub: &Hub, build: &Build, tell: &watch::Sender<Building>) -> Result<Digest, Unbuilt> {
    let _turn = hub.builds.turns.acquire().await;
    tell.send_replace(Building::Building { building: None, fetching: None });
    let nix = Nix::of_host();
    let inputs = hub.store.closure(&build.inputs).await?;
    let inputs = inputs.ok_or_else(|| Unbuilt::Other("the hub lacks what it is built from".into()))?;
    let inputs: Contents =
        serde_json::from_str(&inputs).map_err(|error| Unbuilt::Other(error.to_string()))?;
    if inputs.get(build.derivation.as_ref()).is_none() {
        return Err(Unbuilt::Other(format!(
            "{} is not among what it is built from",
            build.derivation.as_str()
        )));
    }
    // It holds what it has taken for as long as it lives.
    let mut taking = nix.take().await?;
    take(hub, &inputs, &mut taking).await?;

    let roots = hub.state.join(ROOTS);
    std::fs::create_dir_all(&roots)?;
    let root = roots.join(Path::new(build.derivation.as_str()).file_name().unwrap_or_default());
    let built = realise(nix, build, &root, tell).await;
    let kept = match built {
        Ok(()) => keep(hub, nix, &build.toplevel).await,
        Err(error) => Err(error),
    };
    // From here on the archives are what counts.
    let _ = std::fs::remove_file(&root);
    kept
}

async fn realise(
    nix: Nix,
    build: &Build,
    root: &Path,
    tell: &watch::Sender<Building>,
) -> Result<(), Unbuilt> {
    let mut listen = |line: LogLine| {
        let (building, fetching) = match line {
            LogLine::Building(name) => (Some(name), None),
            LogLine::Fetching(name) => (None, Some(name)),
            _ => return,
        };
        tell.send_replace(Building::Building { building, fetching });
    };
    nix.realise(&build.derivation, root, &mut listen).await?;
    // By its name it is what the operator has evaluated.
    if std::fs::read_link(root)?.as_path() == Path::new(build.toplevel.as_str()) {
        return Ok(());
    }
    Err(Unbuilt::Other(format!("{} does not make {}", build.derivation.as_str(), build.toplevel)))
}

/// Puts archives into the store here.
async fn take(hub: &Hub, inputs: &Contents, taking: &mut Taking) -> Result<(), Unbuilt> {
    let paths: Vec<StorePath> = inputs.iter().map(|one| one.path.clone()).collect();
    let missing = taking.missing(&paths).await?;
    let missing = missing.iter().filter_map(|path| inputs.get(path)).map(PathInfo::from).collect();
    for info in references_first(missing) {
        let Some(one) = inputs.get(&info.path) else { continue };
        taking.begin(&info).await?;
        let mut pieces = unpack(hub, one.hash)?;
        while let Some(piece) = pieces.recv().await {
            taking.pass(&piece?).await?;
        }
        taking.taken().await?;
    }
    Ok(())
}

/// The pieces of an archive, unpacked.
fn unpack(hub: &Hub, hash: Digest) -> Result<mpsc::Receiver<std::io::Result<Bytes>>, Unbuilt> {
    let mut decoder = zstd::Decoder::new(std::fs::File::open(hub.objects.place(&hash))?)?;
    let (sender, pieces) = mpsc::channel(2);
    spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = std::io::Read::read(&mut decoder, &mut piece);
            let piece = match read {
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    Ok(Bytes::from(piece))
                }
                Err(error) => Err(error),
            };
            let broke = piece.is_err();
            if sender.blocking_send(piece).is_err() || broke {
                return;
            }
        }
    });
    Ok(pieces)
}

/// Keeps the closure of what was built, and gives its digest.
async fn keep(hub: &Hub, nix: Nix, toplevel: &StorePath) -> Result<Digest, Unbuilt> {
    let (_, infos) = nix.store_here()?.closure(std::slice::from_ref(toplevel)).await?;
    let (contents, infos) = contents(infos).map_err(Unbuilt::Other)?;
    let hashes: Vec<Digest> = infos.iter().map(|(hash, _)| *hash).collect();
    let there = hub.store.want_objects(&hashes, now()).await?;
    let mut missing: Vec<(Digest, PathInfo)> =
        infos.into_iter().filter(|(hash, _)| !there.contains(hash)).collect();
    // Two paths can have the same contents.
    missing.sort_by_key(|(hash, _)| *hash);
    missing.dedup_by_key(|(hash, _)| *hash);
    if !missing.is_empty() {
        let (hashes, infos): (Vec<Digest>, Vec<PathInfo>) = missing.into_iter().unzip();
        let (store, _) = nix.store_here()?.closure(&[]).await?;
        let mut archives = store.archives(infos);
        for hash in hashes {
            pack(hub, hash, &mut archives).await?;
        }
    }
    let digest = contents.digest();
    match hub.store.keep_closure(&digest, &contents, now()).await? {
        0 => Ok(digest),
        missing => Err(Unbuilt::Other(format!("{missing} archives of what was built are gone again"))),
    }
}

/// Keeps the next archive.
async fn pack(hub: &Hub, hash: Digest, archives: &mut Archives) -> Result<(), Unbuilt> {
    let ends = |_| Unbuilt::Other("the hub ends".into());
    let Some(info) = archives.begin() else { return Ok(()) };
    let incoming = hub.objects.incoming(hash, info.size)?;
    let mut encoder = zstd::Encoder::new(incoming, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = archives.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        (encoder, buffer) = spawn_blocking(move || {
            std::io::Write::write_all(&mut encoder, buffer.get(..read).unwrap_or_default())
                .map(|()| (encoder, buffer))
        })
        .await
        .map_err(ends)??;
    }
    let incoming = spawn_blocking(move || encoder.finish()).await.map_err(ends)??;
    Ok(hub.keep_archive(incoming).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_reason_the_end_is_told() {
        assert_eq!(last("short"), "short");
        let long = format!("{}ü: error", "ü".repeat(WHY));
        let told = last(&long);
        assert!(told.ends_with("ü: error") && told.len() <= WHY, "{}", told.len());
    }
}

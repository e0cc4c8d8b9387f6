//! Building on the hub: what an operator has evaluated is built in the store here and kept as archives, so that hosts fetch it
//! as anything else. Nothing is evaluated here.
//!
//! A derivation is built by one job, however many wait for it. A job goes on where nobody waits any more: whoever asks again
//! finds it, or how it has ended, or what Nix has made meanwhile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use bosco_model::StorePath;
use bosco_nix::{Archives, LogLine, Nix, PathInfo, Taking, contents, references_first};
use bosco_release::{Contents, Digest};
use bosco_wire::api::{Build, Building, Output};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::hub::{Hub, now};
use crate::objects::Unkept;
use crate::store::StoreError;

/// How many jobs run side by side, each with as many builds as Nix is set to.
const JOBS: usize = 2;
/// How many jobs there may be, those that wait for their turn among them.
const MOST: usize = 10_000;
/// How long one may take: all of a system on a slow machine, if it comes to that.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How long it is told how one has ended, to who was about to ask again.
const TOLD: Duration = Duration::from_secs(600);
/// How much is read at once, in bytes.
const PIECE: usize = 256 * 1024;
/// How much is told of why something was not built, in bytes.
const WHY: usize = 16 * 1024;
/// Where what is being built is rooted, below the hub's folder.
const ROOTS: &str = "builds";

/// What a job is known by: who says another thing of the same derivations has a job of their own.
type Asked = (Vec<Output>, Digest);

/// What is being built.
pub(crate) struct Builds {
    jobs: Mutex<HashMap<Asked, watch::Receiver<Building>>>,
    turns: Semaphore,
    roots: PathBuf,
    next: AtomicU64,
}

/// Why something is not built.
#[derive(Debug, Error)]
enum Unbuilt {
    #[error("{0}")]
    Nix(#[from] bosco_nix::Error),
    #[error("the hub's disk: {0}")]
    Disk(#[from] io::Error),
    #[error("the hub's memory: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unkept(#[from] Unkept),
    #[error("{0}")]
    Other(String),
}

impl Builds {
    /// Nothing is built yet; what a hub that was cut short has left rooted may be collected.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let roots = state.join(ROOTS);
        match fs::remove_dir_all(&roots) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&roots)?;
        Ok(Self { jobs: Mutex::default(), turns: Semaphore::new(JOBS), roots, next: AtomicU64::new(0) })
    }

    /// Where the next one is rooted.
    fn root(&self) -> PathBuf {
        self.roots.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// Whether this answers somebody who asks how a build stands. That of one that has ended is for who has seen it under way: who
/// comes anew has it built anew.
fn answers(now: &Building, seen: Option<&Building>) -> bool {
    seen.is_some() || !matches!(now, Building::Built { .. } | Building::Failed { .. })
}

/// How a build stands, which is begun where it is not under way. `None` where there are too many.
pub(crate) fn ask(hub: &Arc<Hub>, build: Build) -> Option<watch::Receiver<Building>> {
    let asked: Asked = (build.outputs.clone(), build.inputs);
    let mut jobs = hub.builds.jobs.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(job) = jobs.get(&asked).filter(|job| answers(&job.borrow(), build.seen.as_ref())) {
        return Some(job.clone());
    }
    if jobs.len() >= MOST {
        return None;
    }
    let (tell, told) = watch::channel(Building::Waiting);
    jobs.insert(asked.clone(), told.clone());
    let (hub, own) = (Arc::clone(hub), told.clone());
    tokio::spawn(async move {
        let ended = match job(&hub, &build, &tell).await {
            Ok(closure) => Building::Built { closure },
            Err(error) => {
                let why = last(&error.to_string());
                let what = build.outputs.first().map_or("nothing", |one| one.path.as_str());
                crate::say(&format!("bosco hub: {what} is not built: {why}"));
                Building::Failed { why }
            }
        };
        tell.send_replace(ended);
        // Between two questions nobody listens.
        sleep(TOLD).await;
        let mut jobs = hub.builds.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.get(&asked).is_some_and(|job| job.same_channel(&own)) {
            jobs.remove(&asked);
        }
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
        aside(move || serde_json::from_str(&inputs).map_err(|error| error.to_string())).await?;
    if let Some(one) = build.outputs.iter().find(|one| inputs.get(one.derivation.as_ref()).is_none()) {
        let why = format!("{} is not among what it is built from", one.derivation.as_str());
        return Err(Unbuilt::Other(why));
    }
    // It holds what it has taken for as long as it lives.
    let mut taking = nix.take().await?;
    take(hub, &inputs, &mut taking).await?;

    let outputs: Vec<(PathBuf, &Output)> = build.outputs.iter().map(|one| (hub.builds.root(), one)).collect();
    let all = async {
        for (root, output) in &outputs {
            realise(nix, output, root, tell).await?;
        }
        Ok(())
    };
    let kept = match timeout(LONGEST, all).await {
        Ok(Ok(())) => {
            let paths: Vec<StorePath> = build.outputs.iter().map(|one| one.path.clone()).collect();
            keep(hub, nix, &paths).await
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Unbuilt::Other(format!("it took longer than {} hours", LONGEST.as_secs() / 3600))),
    };
    // From here on the archives are what counts.
    for (root, _) in &outputs {
        let _ = fs::remove_file(root);
    }
    kept
}

/// Does what takes long, where it holds up nobody. Why it can't be done is told in words.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Unbuilt> {
    spawn_blocking(work).await.map_err(ends)?.map_err(Unbuilt::Other)
}

fn ends(_: JoinError) -> Unbuilt {
    Unbuilt::Other("the hub ends".into())
}

async fn realise(
    nix: Nix,
    Output { derivation, path }: &Output,
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
    nix.realise(derivation, root, &mut listen).await?;
    // By its name it is what the operator has evaluated.
    if fs::read_link(root)?.as_path() == Path::new(path.as_str()) {
        return Ok(());
    }
    Err(Unbuilt::Other(format!("{} does not make {path}", derivation.as_str())))
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
fn unpack(hub: &Hub, hash: Digest) -> Result<mpsc::Receiver<io::Result<Bytes>>, Unbuilt> {
    let mut decoder = zstd::Decoder::new(fs::File::open(hub.objects.place(&hash))?)?;
    let (sender, pieces) = mpsc::channel(2);
    spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = io::Read::read(&mut decoder, &mut piece);
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
async fn keep(hub: &Hub, nix: Nix, paths: &[StorePath]) -> Result<Digest, Unbuilt> {
    let (_, infos) = nix.store_here()?.closure(paths).await?;
    let (digest, contents, infos) =
        aside(move || contents(infos).map(|(contents, infos)| (contents.digest(), contents, infos))).await?;
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
    match hub.store.keep_closure(&digest, &contents, now()).await? {
        0 => Ok(digest),
        missing => Err(Unbuilt::Other(format!("{missing} archives of what was built are gone again"))),
    }
}

/// Keeps the next archive.
async fn pack(hub: &Hub, hash: Digest, archives: &mut Archives) -> Result<(), Unbuilt> {
    let Some(info) = archives.begin() else { return Ok(()) };
    let incoming = hub.objects.incoming(hash, info.size)?;
    let mut encoder = zstd::Encoder::new(incoming, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = archives.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        if !hub.objects.has_room(read as u64) {
            return Err(Unbuilt::Other("the hub's disk is full".into()));
        }
        (encoder, buffer) = spawn_blocking(move || {
            io::Write::write_all(&mut encoder, buffer.get(..read).unwrap_or_default())
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
    fn how_a_build_has_ended_is_told_to_who_has_seen_it_under_way_and_to_nobody_who_comes_anew() {
        let failed = Building::Failed { why: "no".into() };
        let under_way = Building::Building { building: None, fetching: None };
        for seen in [&Building::Waiting, &under_way] {
            assert!(answers(&failed, Some(seen)) && answers(&under_way, Some(seen)));
        }
        assert!(answers(&Building::Waiting, None) && answers(&under_way, None));
        assert!(!answers(&failed, None), "it was mended meanwhile, say");
    }

    #[test]
    fn of_a_long_reason_the_end_is_told() {
        assert_eq!(last("short"), "short");
        let long = format!("{}ü: error", "ü".repeat(WHY));
        let told = last(&long);
        assert!(told.ends_with("ü: error") && told.len() <= WHY, "{}", told.len());
    }
}

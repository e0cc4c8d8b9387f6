//! Getting a closure: what is in it, by the hub and the manifest's digest; what the store lacks of it, from the caches that it
//! knows or else from the hub; and that in the end every path is what the manifest says.
//!
//! Beside it go the host's secrets, which are ciphertext: also what is encrypted is none but what was signed.
//!
//! What a hub gives is compared with what was signed, while it passes: a path of another size or hash never gets into the store.
//! What is not under way any more was taken whole, so whoever begins again goes on where it stopped.

mod unpack;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bosco_host::{durable, secrets};
use bosco_model::StorePath;
use bosco_nix::{Nix, PathInfo, Taking, references_first};
use bosco_release::{Contents, Digest, MAX_PROFILES, Manifest, PathContents, Runs};
use bosco_secrets::{MAX_BUNDLE, NO_SECRETS};
use bosco_wire::api::{LONGEST_CLOSURE, Phase};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::link::{LinkError, Width};
use bosco_wire::pack::{HEAD, Head};
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use unpack::{Pace, Unpacked, Unpacker};

use crate::agent::Agent;
use crate::backoff::jitter;
use crate::machine::random;

/// How many bytes of paths that a cache has signed the host has to lack before its own caches are looked at first: fewer are
/// there sooner from the hub.
const SUBSTITUTE: u64 = 1024 * 1024;
/// How long the caches may take to have nothing.
const SEARCH: Duration = Duration::from_secs(60);
/// How many bytes a second they have to send, or the rest comes from the hub.
const LEAST_RATE: u64 = 256 * 1024;
/// How long the hub may have no place for who fetches, before it is tried again as if it had failed.
const QUEUE: Duration = Duration::from_secs(3600);
/// How many archives are asked for at once: as many as the question has room for.
const AT_ONCE: usize = 5_000;
/// What keeps what was fetched until something else does; each profile has one with a number.
const ROOT: &str = "pulled";
const PROFILE_ROOT: &str = "pulled-profile-";

/// Why a closure is not there.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the store here did not take it: {0}")]
    Nix(#[from] bosco_nix::Error),
    #[error("{0}")]
    Disk(String),
    /// The hub gives something else than what was signed.
    #[error("the hub does not give what was signed: {0}")]
    Wrong(String),
    /// The hub gives nothing, or next to nothing.
    #[error("the hub sends too slowly; it is tried again later")]
    Slow,
    /// The store has something else than what was signed.
    #[error("{0} in the store here is not what was signed: somebody made or fetched it with other contents")]
    Differs(StorePath),
}

/// Sees to it that a manifest's closure is in the store, held, and what was signed.
pub(crate) async fn closure(agent: &Agent, manifest: &Manifest) -> Result<(), FetchError> {
    // Before anything of it is there: it is kept from then on.
    keep(&agent.config.places.gcroots(), &manifest.runs).map_err(FetchError::Disk)?;
    let link = agent.connect("bulk", Width::Wide).await?;
    let mut http = agent.http(&link, LONGEST_CLOSURE).await?;
    let contents = contents(&mut http, manifest).await?;
    let nix = Nix::of_host();
    let mut taking = nix.take().await?;
    let paths: Vec<StorePath> = contents.iter().map(|one| one.path.clone()).collect();
    let mut missing = taking.missing(&paths).await?;
    if let Some(shortage) = bosco_activation::shortage(agent.core().free(), size(&contents, &missing)) {
        return Err(FetchError::Disk(shortage.to_string()));
    }
    let signed = worth_substituting(&contents, &missing);
    if !signed.is_empty() {
        let limit = SEARCH + Duration::from_secs(size(&contents, &signed) / LEAST_RATE);
        nix.substitute(&signed, limit).await?;
        missing = taking.missing(&missing).await?;
    }
    if !missing.is_empty() {
        let (count, bytes) = (missing.len(), size(&contents, &missing));
        agent.say(&format!("fetches {count} paths, {} MiB", bytes / (1024 * 1024)));
        agent.core().at(Phase::Fetching, Some(format!("it fetches {count} paths")));
    }
    for round in rounds(&contents, &missing) {
        let pace = Pace::over(agent.config.patience.pace);
        let digests: Vec<Digest> = round.iter().map(|(digest, _)| *digest).collect();
        let stream = Stream::new(ask(agent, &mut http, &digests).await?, pace);
        receive(stream, &round, &mut taking).await?;
    }
    let known = taking.infos(&paths).await?;
    bundle(agent, &mut http, manifest).await?;
    link.close().await;
    let differs = contents.iter().find(|one| known.get(&one.path).is_none_or(|info| !is_same(one, info)));
    differs.map_or(Ok(()), |one| Err(FetchError::Differs(one.path.clone())))
}

/// Keeps what a manifest names, there or not yet, and no profiles of one before.
fn keep(roots: &Path, runs: &Runs) -> Result<(), String> {
    std::fs::create_dir_all(roots).map_err(|error| error.to_string())?;
    durable::link(runs.path().as_ref(), &roots.join(ROOT))?;
    let profiles = &runs.profiles().all;
    for (number, one) in profiles.iter().enumerate() {
        durable::link(one.path.as_ref(), &roots.join(format!("{PROFILE_ROOT}{number}")))?;
    }
    for number in profiles.len()..MAX_PROFILES {
        durable::remove(&roots.join(format!("{PROFILE_ROOT}{number}")))?;
    }
    Ok(())
}

/// Sees to it that the secrets are here that the host is to have.
async fn bundle(agent: &Agent, http: &mut Http, manifest: &Manifest) -> Result<(), FetchError> {
    let wanted = agent.core().secrets(manifest);
    let places = &agent.config.places;
    let Some(digest) = wanted.filter(|digest| !secrets::has(places, *digest)) else { return Ok(()) };
    let bytes = if digest == Digest::of(&[NO_SECRETS]) {
        Bytes::from_static(NO_SECRETS)
    } else {
        http.bytes(&format!("/v1/host/secrets/{digest}"), MAX_BUNDLE).await?
    };
    if Digest::of(&[&bytes]) != digest {
        return Err(FetchError::Wrong("other secrets".into()));
    }
    secrets::keep(places, digest, &bytes).map_err(FetchError::Disk)
}

/// What is in the closure: whatever the hub says, it is what the manifest's digest says.
async fn contents(http: &mut Http, manifest: &Manifest) -> Result<Contents, FetchError> {
    let closure = manifest.runs.closure();
    let contents: Contents = http.get(&format!("/v1/host/closures/{closure}")).await?;
    if contents.digest() != closure {
        return Err(FetchError::Wrong("another closure".into()));
    }
    match manifest.runs.paths().into_iter().find(|path| contents.get(path).is_none()) {
        Some(path) => Err(FetchError::Wrong(format!("a closure without {path}"))),
        None => Ok(contents),
    }
}

fn size(contents: &Contents, paths: &[StorePath]) -> u64 {
    paths.iter().filter_map(|path| contents.get(path)).fold(0, |sum, one| sum.saturating_add(one.size))
}

/// Of what is missing, what the host looks for in its own caches first: what a cache has signed, if that is much.
fn worth_substituting(contents: &Contents, missing: &[StorePath]) -> Vec<StorePath> {
    let is_signed = |path: &&StorePath| contents.get(path).is_some_and(|one| !one.signatures.is_empty());
    let signed: Vec<StorePath> = missing.iter().filter(is_signed).cloned().collect();
    if size(contents, &signed) < SUBSTITUTE { Vec::new() } else { signed }
}

/// Whether the store has a path as it was signed.
fn is_same(one: &PathContents, info: &PathInfo) -> bool {
    let references: HashSet<&StorePath> = info.references.iter().collect();
    info.sha256() == Some(*one.hash.as_bytes())
        && info.size == one.size
        && references == one.references.iter().collect()
}

/// A path that is to come, with the digest of its archive.
type Due = (Digest, PathInfo);

/// What is missing, each path behind those that it refers to, in questions of which each asks for an archive once.
fn rounds(contents: &Contents, missing: &[StorePath]) -> Vec<Vec<Due>> {
    let infos = missing.iter().filter_map(|path| contents.get(path)).map(PathInfo::from).collect();
    let mut rounds: Vec<Vec<Due>> = Vec::new();
    let mut asked = HashSet::new();
    for info in references_first(infos) {
        let Some(one) = contents.get(&info.path) else { continue };
        let is_full = rounds.last().is_none_or(|round| round.len() >= AT_ONCE);
        if is_full || asked.contains(&one.hash) {
            asked.clear();
            rounds.push(Vec::new());
        }
        asked.insert(one.hash);
        if let Some(round) = rounds.last_mut() {
            round.push((one.hash, info));
        }
    }
    rounds
}

/// Asks for archives, again where the hub gives some to as many as it can: that is nobody's fault.
async fn ask(agent: &Agent, http: &mut Http, digests: &[Digest]) -> Result<Incoming, FetchError> {
    let until = Instant::now() + QUEUE;
    loop {
        match http.stream("/v1/host/paths", &digests).await {
            Err(HttpError::Busy(wait)) if Instant::now() + wait < until => {
                agent
                    .core()
                    .at(Phase::Fetching, Some("many fetch from the hub: it waits for its turn".into()));
                sleep(jitter(wait, random())).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// Takes archives in their order.
async fn receive(mut stream: Stream, due: &[Due], taking: &mut Taking) -> Result<(), FetchError> {
    for (digest, info) in due {
        let head = Head::read(&stream.head().await?);
        if head.hash != *digest || head.size != info.size {
            return Err(FetchError::Wrong(format!("another archive than that of {}", info.path)));
        }
        let mut unpacker = Unpacker::new(&head).map_err(FetchError::Wrong)?;
        taking.begin(info).await?;
        while unpacker.left() > 0 {
            let mut piece = stream.piece(unpacker.left()).await?;
            loop {
                match unpacker.unpack(&mut piece) {
                    Ok(Unpacked::More(bytes)) => taking.pass(bytes).await?,
                    Ok(Unpacked::Hungry) => break,
                    Err(why) => return Err(FetchError::Wrong(format!("{}: {why}", info.path))),
                }
            }
        }
        unpacker.end().map_err(|why| FetchError::Wrong(format!("{}: {why}", info.path)))?;
        taking.taken().await?;
    }
    Ok(())
}

/// What comes from the hub, in pieces as they come, and how fast.
struct Stream {
    body: Incoming,
    rest: Bytes,
    pace: Pace,
}

impl Stream {
    fn new(body: Incoming, pace: Pace) -> Self {
        Self { body, rest: Bytes::new(), pace }
    }

    async fn head(&mut self) -> Result<[u8; HEAD], FetchError> {
        let mut head = [0; HEAD];
        let mut filled = 0;
        while filled < HEAD {
            let piece = self.piece((HEAD - filled) as u64).await?;
            head[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Ok(head)
    }

    /// The next bytes, at least one and at most so many.
    async fn piece(&mut self, most: u64) -> Result<Bytes, FetchError> {
        while !self.rest.has_remaining() {
            let began = Instant::now();
            let frame = timeout(self.pace.left(), self.body.frame()).await.map_err(|_| FetchError::Slow)?;
            let frame = frame.ok_or_else(|| FetchError::Wrong("less than what was asked for".into()))?;
            let frame = frame.map_err(|error| HttpError::Broken(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.rest = data;
            }
            if !self.pace.came(began.elapsed(), self.rest.len()) {
                return Err(FetchError::Slow);
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(self.rest.split_to(most))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::parse(&format!("/nix/store/{number:032}-x")).unwrap()
    }

    fn one(number: usize, content: u8, references: &[usize]) -> PathContents {
        PathContents {
            path: path(number),
            hash: Digest::from_bytes([content; 32]),
            size: 1000,
            references: references.iter().map(|number| path(*number)).collect(),
            signatures: if number.is_multiple_of(2) { vec!["cache-1:x".into()] } else { Vec::new() },
            address: String::new(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn what_is_missing_is_asked_for_once_and_behind_what_it_refers_to(
            edges in prop::collection::vec((0_usize..20, 0_usize..20), 0..40),
            contents in prop::collection::vec(0_u8..12, 20), lacks in prop::collection::vec(any::<bool>(), 20),
        ) {
            let refs = |number: usize| -> Vec<usize> {
                edges.iter().filter(|(a, b)| *a == number && b <= a).map(|(_, b)| *b).collect()
            };
            let all = (0..20).map(|number| one(number, contents[number], &refs(number))).collect();
            let closure = Contents::new(all).unwrap();
            let missing: Vec<StorePath> = (0..20).filter(|number| lacks[*number]).map(path).collect();
            let mut came = BTreeSet::new();
            for round in rounds(&closure, &missing) {
                let asked: HashSet<Digest> = round.iter().map(|(digest, _)| *digest).collect();
                prop_assert_eq!(asked.len(), round.len(), "an archive twice in one question");
                for (digest, info) in round {
                    prop_assert_eq!(closure.get(&info.path).unwrap().hash, digest);
                    for reference in &info.references {
                        prop_assert!(
                            *reference == info.path || !missing.contains(reference) || came.contains(reference)
                        );
                    }
                    prop_assert!(came.insert(info.path));
                }
            }
            prop_assert_eq!(came, missing.into_iter().collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn caches_are_asked_for_much_that_they_have_signed() {
        let all = |size| {
            Contents::new((0..10).map(|number| PathContents { size, ..one(number, 1, &[]) }).collect())
        };
        let missing: Vec<StorePath> = (0..10).map(path).collect();
        assert_eq!(worth_substituting(&all(1000).unwrap(), &missing), []);
        let found = worth_substituting(&all(1024 * 1024).unwrap(), &missing);
        assert_eq!(found, [0, 2, 4, 6, 8].map(path));
    }

    #[test]
    fn a_path_with_other_contents_is_told_from_the_one_that_was_signed() {
        let signed = one(1, 7, &[1, 2]);
        assert!(is_same(&signed, &PathInfo::from(&signed)));
        for other in [
            PathContents { hash: Digest::from_bytes([8; 32]), ..signed.clone() },
            PathContents { size: 1001, ..signed.clone() },
            PathContents { references: BTreeSet::new(), ..signed.clone() },
        ] {
            assert!(!is_same(&signed, &PathInfo::from(&other)));
        }
    }
}

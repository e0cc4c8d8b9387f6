//! Hosts and operators that are not there, speaking the real protocol to a real hub: what tests and benchmarks of a hub share.
//!
//! Keys come from names, so that nobody has to keep any. Archives are any bytes: a hub does not look into them.

#![allow(
    clippy::unwrap_used,
    reason = "what is put together here is right, or the test that wants it has to fail"
)]
#![allow(clippy::missing_panics_doc, reason = "the same")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bosco_model::{HostName, Profiles, StorePath};
use bosco_release::{
    Contents, Digest, Draft, FleetFile, Key, Manifest, Number, PathContents, Policy, RELEASE_NAMESPACE,
    Release, Runs, Statement,
};
use bosco_wire::api::{Hello, ReleaseLine, Standing, Welcome};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::pack::Head;
use bytes::Bytes;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

/// The key of somebody, always the same.
#[must_use]
pub fn identity(name: &str) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(Digest::of(&[b"test", name.as_bytes()]).as_bytes()))
}

/// Its public part.
#[must_use]
pub fn key(name: &str) -> Key {
    Key::of(identity(name).public_key()).unwrap()
}

/// The name of a host.
#[must_use]
pub fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

/// A release of these hosts, each with archives of its own, and what is in their closures. `ada` has signed it.
#[must_use]
pub fn draft(
    file: &FleetFile,
    number: Number,
    hosts: &[(&str, &[&[u8]])],
) -> (Release, BTreeMap<Digest, Contents>) {
    draft_of(file, number, hosts, &[])
}

/// The same, where some hosts build themselves from theirs.
#[must_use]
pub fn draft_of(
    file: &FleetFile,
    number: Number,
    hosts: &[(&str, &[&[u8]])],
    trees: &[&str],
) -> (Release, BTreeMap<Digest, Contents>) {
    let mut closures = BTreeMap::new();
    // Many hosts may have one archive: hashing it takes its time.
    let all: BTreeSet<&[u8]> = hosts.iter().flat_map(|(_, archives)| archives.iter().copied()).collect();
    let hashes: BTreeMap<&[u8], Digest> = all.into_iter().map(|one| (one, Digest::of(&[one]))).collect();
    let manifests = hosts.iter().map(|(name, archives)| {
        let contents = closure(name, archives.iter().map(|one| (hashes[one], one.len() as u64)));
        let digest = contents.digest();
        let toplevel = contents.iter().next().unwrap().path.clone();
        closures.insert(digest, contents);
        let runs = if trees.contains(name) {
            Runs::Tree { tree: toplevel, closure: digest, self_update: false, reboot: false }
        } else {
            Runs::System { toplevel, profiles: Profiles::default(), closure: digest }
        };
        Manifest {
            fleet: file.fleet.clone(),
            host: host(name),
            keys: vec![key(name)],
            number,
            runs,
            secrets: None,
            tags: BTreeSet::new(),
            policy: Policy::default(),
            trust: file.trust_of(&host(name), &BTreeSet::new()),
            lifts: 0,
        }
    });
    let statement = Statement {
        fleet: file.fleet.clone(),
        number,
        root: Digest::of(&[]),
        hosts: 0,
        commit: Some("0123456789abcdef".into()),
        made: 1_700_000_000,
        expires: 4_000_000_000,
        hub_builds: false,
    };
    (signed(Draft::new(statement, manifests.collect()).unwrap()), closures)
}

fn signed(draft: Draft) -> Release {
    let signature = identity("ada").sign(RELEASE_NAMESPACE, HashAlg::Sha512, draft.statement.as_bytes());
    let signature = signature.unwrap().to_pem(LineEnding::LF).unwrap();
    draft.signed(signature)
}

/// A release of the same, but for what is changed of its manifests. `ada` has signed it.
#[must_use]
pub fn changed(release: &Release, change: impl FnMut(&mut Manifest)) -> Release {
    let (statement, mut manifests) = release.look().unwrap();
    manifests.values_mut().for_each(change);
    signed(Draft::new(statement, manifests.into_values().collect()).unwrap())
}

/// A bundle with one key, which nobody can open.
#[must_use]
pub fn bundle(text: &str) -> Vec<u8> {
    let key = r#""destDir":"/run/keys","fileName":"x","user":"root","group":"root","permissions":"0400""#;
    let name = "deployment.keys/x";
    let text: String = text.bytes().map(|byte| format!("{byte:04x}")).collect();
    let file = format!(r#"{{"{name}":{{"kind":"age","data":"{text}"}}}}"#);
    let key = format!(r#"{{"x":{{"file":"{name}",{key},"uploadAt":"preActivation"}}}}"#);
    format!(r#"{{"files":{file},"secrets":{{}},"keys":{key}}}"#).into_bytes()
}

/// A closure of these archives.
#[must_use]
pub fn contents(name: &str, archives: &[&[u8]]) -> Contents {
    closure(name, archives.iter().map(|one| (Digest::of(&[one]), one.len() as u64)))
}

/// A closure of archives with these hashes and sizes.
fn closure(name: &str, archives: impl Iterator<Item = (Digest, u64)>) -> Contents {
    let path = |number: usize, hash: Digest| {
        let hash = Digest::of(&[name.as_bytes(), hash.as_bytes()]).to_string();
        let hash: String = hash.chars().map(|c| if c == 'e' { 'x' } else { c }).take(31).collect();
        // The first in the order of names is the toplevel.
        StorePath::parse(&format!("/nix/store/{number}{hash}-{name}")).unwrap()
    };
    let paths = archives.enumerate().map(|(number, (hash, size))| PathContents {
        path: path(number, hash),
        hash,
        size,
        references: BTreeSet::new(),
        signatures: Vec::new(),
        address: String::new(),
    });
    Contents::new(paths.collect()).unwrap()
}

/// Sends archives to the hub.
pub async fn upload<'a>(http: &mut Http, archives: impl Iterator<Item = &'a [u8]>) -> Result<(), HttpError> {
    let mut pieces = Vec::new();
    for archive in archives {
        let stored = zstd::encode_all(archive, 1).unwrap();
        let head =
            Head { hash: Digest::of(&[archive]), size: archive.len() as u64, stored: stored.len() as u64 };
        pieces.push(Bytes::copy_from_slice(&head.to_bytes()));
        pieces.push(Bytes::from(stored));
    }
    let (sender, answer) = http.upload("/v1/paths");
    let feed = async move {
        for piece in pieces {
            let _ = sender.send(piece).await;
        }
    };
    tokio::join!(feed, answer).1
}

/// Sends the closures of a release, whose archives the hub has, and publishes it.
pub async fn publish(
    http: &mut Http,
    release: &Release,
    closures: &BTreeMap<Digest, Contents>,
) -> Result<ReleaseLine, HttpError> {
    for contents in closures.values() {
        http.post::<Digest>("/v1/closures", contents, Duration::ZERO).await?;
    }
    http.post("/v1/releases", release, Duration::from_secs(60)).await
}

/// A host says hello.
pub async fn hello(http: &mut Http, ratchet: Option<String>) -> Welcome {
    let standing = Standing { version: "test".into(), ..Standing::default() };
    http.post("/v1/host/hello", &Hello { ratchet, standing }, Duration::ZERO).await.unwrap()
}

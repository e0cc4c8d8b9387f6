//! A real hub on loopback, with a fleet of keys: hosts and operators come to it by the protocol that agents speak.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses a part of it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bosco_hub::{Running, Settings, start};
use bosco_model::{HostName, StorePath};
use bosco_release::{
    Contents, Digest, Draft, FleetFile, Key, Manifest, Number, PathContents, Policy, RELEASE_NAMESPACE,
    Release, Statement,
};
use bosco_wire::api::{Enroll, Hello, Next, Publish, ReleaseLine, Standing, Welcome};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::link::{Hub, Link, LinkError, Width};
use bosco_wire::pack::Head;
use bytes::Bytes;
use hyper::Method;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

/// A hub of a test. Its folder goes with it.
pub struct Fleet {
    pub dir: PathBuf,
    pub settings: Settings,
    /// There but for the moment of a restart.
    running: Option<Running>,
}

/// The key of somebody, always the same.
pub fn identity(name: &str) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(Digest::of(&[b"test", name.as_bytes()]).as_bytes()))
}

/// Its public part.
pub fn key(name: &str) -> Key {
    Key::of(identity(name).public_key()).unwrap()
}

pub fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

impl Fleet {
    /// A hub with two operators: `ada`, who is granted every host and signs, and `bob`, who has the hosts `b*` and does not.
    pub async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bosco-hub-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let state = dir.join("state");
        let hub_key = bosco_hub::key(&state).unwrap();
        let file = dir.join("bosco.toml");
        let text = format!(
            "fleet = \"home\"\n[hub]\naddress = \"127.0.0.1:1\"\nkeys = [\"{hub_key}\"]\n\
             [operators.ada]\nkeys = [\"{}\"]\n[operators.bob]\nkeys = [\"{}\"]\nhosts = \"b*\"\nsigns = false\n",
            key("ada"),
            key("bob")
        );
        fs::write(&file, text).unwrap();
        let settings = Settings { state, listen: "127.0.0.1:0".into(), fleet: file };
        let hub = start(&settings).await.unwrap();
        Self { dir, settings, running: Some(hub) }
    }

    /// The same hub, started anew, at another port.
    pub async fn restart(mut self) -> Self {
        self.running.take().unwrap().end().await;
        self.running = Some(start(&self.settings).await.unwrap());
        self
    }

    /// The same without a hub, which somebody else is to be.
    pub async fn ended(mut self) -> (Self, Settings) {
        self.running.take().unwrap().end().await;
        let settings = self.settings.clone();
        (self, settings)
    }

    pub fn hub(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// How the fleet is run.
    pub fn file(&self) -> FleetFile {
        FleetFile::parse(&fs::read_to_string(&self.settings.fleet).unwrap()).unwrap()
    }

    /// Somebody comes to the hub.
    pub async fn link(&self, who: &str, user: &str) -> Result<Link, LinkError> {
        let hub = Hub {
            address: self.hub().address.to_string(),
            keys: vec![self.hub().key.clone()],
            identity: Arc::new(identity(who)),
        };
        hub.connect(user, Width::Narrow).await
    }

    /// The hub's HTTP, as somebody. The link has to be kept.
    pub async fn http(&self, who: &str) -> (Link, Http) {
        let link = self.link(who, "bosco").await.unwrap();
        let http = link.http().await.unwrap();
        (link, http)
    }

    /// Lets hosts in, each with the key of its name.
    pub async fn enroll(&self, hosts: &[&str]) {
        let (_link, mut ada) = self.http("ada").await;
        for name in hosts {
            let enroll = Enroll { keys: vec![key(name)] };
            ada.send(Method::PUT, &format!("/v1/hosts/{name}"), &enroll).await.unwrap();
        }
    }

    /// Publishes a release: each host with archives of its own.
    pub async fn release(&self, hosts: &[(&str, &[&[u8]])]) -> ReleaseLine {
        let (_link, mut ada) = self.http("ada").await;
        let next: Next = ada.get("/v1/next").await.unwrap();
        let (release, closures) = self.draft(next.number, hosts);
        let archives: BTreeMap<Digest, &[u8]> =
            hosts.iter().flat_map(|(_, all)| all.iter()).map(|all| (Digest::of(&[all]), *all)).collect();
        upload(&mut ada, archives.into_values()).await.unwrap();
        ada.post("/v1/releases", &Publish { release, closures }, Duration::ZERO).await.unwrap()
    }

    /// A release signed by `ada`.
    pub fn draft(&self, number: Number, hosts: &[(&str, &[&[u8]])]) -> (Release, BTreeMap<Digest, Contents>) {
        let file = self.file();
        let mut closures = BTreeMap::new();
        let manifests = hosts.iter().map(|(name, archives)| {
            let contents = contents(name, archives);
            let digest = contents.digest();
            let toplevel = contents.iter().next().unwrap().path.clone();
            closures.insert(digest, contents);
            Manifest {
                fleet: file.fleet.clone(),
                host: host(name),
                keys: vec![key(name)],
                number,
                toplevel,
                closure: digest,
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
            made: 1_800_000_000,
            expires: 4_000_000_000,
            hub_builds: false,
        };
        let draft = Draft::new(statement, manifests.collect()).unwrap();
        let signature = identity("ada").sign(RELEASE_NAMESPACE, HashAlg::Sha512, draft.statement.as_bytes());
        let signature = signature.unwrap().to_pem(LineEnding::LF).unwrap();
        (draft.signed(signature), closures)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A closure of these archives.
pub fn contents(name: &str, archives: &[&[u8]]) -> Contents {
    let path = |number: usize, archive: &[u8]| {
        let hash = Digest::of(&[name.as_bytes(), archive]).to_string();
        let hash: String = hash.chars().map(|c| if c == 'e' { 'x' } else { c }).take(31).collect();
        // The first in the order of names is the toplevel.
        StorePath::parse(&format!("/nix/store/{number}{hash}-{name}")).unwrap()
    };
    let paths = archives.iter().enumerate().map(|(number, archive)| PathContents {
        path: path(number, archive),
        hash: Digest::of(&[archive]),
        size: archive.len() as u64,
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

/// A host says hello.
pub async fn hello(http: &mut Http, ratchet: Option<String>) -> Welcome {
    let standing = Standing { version: "test".into(), ..Standing::default() };
    http.post("/v1/host/hello", &Hello { ratchet, standing }, Duration::ZERO).await.unwrap()
}

/// How a request was refused.
pub fn status<T>(answer: Result<T, HttpError>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(HttpError::Refused { status, .. }) => status,
        Err(error) => panic!("neither an answer nor a refusal: {error}"),
    }
}

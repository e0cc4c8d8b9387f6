//! A real hub on loopback, with a fleet of keys: hosts and operators come to it by the protocol that agents speak.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses a part of it"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bosco_hub::{Running, Settings, start};
use bosco_release::{Digest, FleetFile};
use bosco_wire::api::{Enroll, Next, ReleaseLine};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::link::{Hub, Link, LinkError, Width};
use hyper::Method;
use simulated::{draft_of, identity, key, publish, upload};

/// A hub of a test. Its folder goes with it.
pub struct Fleet {
    pub dir: PathBuf,
    pub settings: Settings,
    /// There but for the moment of a restart.
    running: Option<Running>,
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
        self.release_of(hosts, &[]).await
    }

    /// The same, where some hosts build themselves from theirs.
    pub async fn release_of(&self, hosts: &[(&str, &[&[u8]])], trees: &[&str]) -> ReleaseLine {
        let (_link, mut ada) = self.http("ada").await;
        let next: Next = ada.get("/v1/next").await.unwrap();
        let (release, closures) = draft_of(&self.file(), next.number, hosts, trees);
        let archives: BTreeMap<Digest, &[u8]> =
            hosts.iter().flat_map(|(_, all)| all.iter()).map(|all| (Digest::of(&[all]), *all)).collect();
        upload(&mut ada, archives.into_values()).await.unwrap();
        publish(&mut ada, &release, &closures).await.unwrap()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How a request was refused.
pub fn status<T>(answer: Result<T, HttpError>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(HttpError::Refused { status, .. }) => status,
        Err(error) => panic!("neither an answer nor a refusal: {error}"),
    }
}

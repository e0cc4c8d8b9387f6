//! What a hub gives of the secrets that it has, which are all encrypted, and what it takes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod fleet;

use std::time::Duration;

use bosco_release::Digest;
use bosco_wire::api::{Next, ReleaseLine};
use bosco_wire::http::{Http, HttpError};
use fleet::{Fleet, status};
use simulated::{bundle, changed, draft, hello, host, publish, upload};

/// More than any bundle has.
const MUCH: usize = 64 << 20;

async fn keep(http: &mut Http, called: &[u8], bytes: &[u8]) -> Result<(), HttpError> {
    let path = format!("/v1/secrets/{}", Digest::of(&[called]));
    http.put(&path, bytes.to_vec(), Duration::ZERO).await
}

async fn fetch(http: &mut Http, bundle: &[u8]) -> Result<Vec<u8>, HttpError> {
    let path = format!("/v1/host/secrets/{}", Digest::of(&[bundle]));
    http.bytes(&path, MUCH).await.map(|bytes| bytes.to_vec())
}

/// Publishes a release of two hosts, of which one has these secrets.
async fn release(fleet: &Fleet, web: &[u8]) -> Result<ReleaseLine, HttpError> {
    let (_link, mut ada) = fleet.http("ada").await;
    let next: Next = ada.get("/v1/next").await.unwrap();
    let hosts: [(&str, &[&[u8]]); 2] = [("web", &[b"a system"]), ("bad", &[b"own"])];
    let (release, closures) = draft(&fleet.file(), next.number, &hosts);
    let release = changed(&release, |manifest| {
        manifest.secrets = (manifest.host == host("web")).then(|| Digest::of(&[web]));
    });
    upload(&mut ada, [b"a system".as_slice(), b"own"].into_iter()).await.unwrap();
    publish(&mut ada, &release, &closures).await
}

#[tokio::test]
async fn a_host_gets_the_secrets_that_its_manifest_names_and_nobody_gets_anothers() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    let [first, second] = ["first", "second"].map(bundle);
    for bundle in [&first, &second] {
        keep(&mut ada, bundle, bundle).await.unwrap();
    }
    release(&fleet, &first).await.unwrap();
    let (_link, mut web) = fleet.http("web").await;
    let (_link, mut bad) = fleet.http("bad").await;
    hello(&mut web, None).await;
    hello(&mut bad, None).await;
    assert_eq!(fetch(&mut web, &first).await.unwrap(), first);
    assert_eq!(status(fetch(&mut web, &second).await), 404, "no release names them");
    assert_eq!(status(fetch(&mut bad, &first).await), 404);
    assert_eq!(status(fetch(&mut ada, &first).await), 403, "operators bring them, and get none");
    assert_eq!(status(keep(&mut bad, &first, &first).await), 403);

    release(&fleet, &second).await.unwrap();
    assert_eq!(fetch(&mut web, &second).await.unwrap(), second);
    assert_eq!(status(fetch(&mut web, &first).await), 404, "they may have been revoked");
    let fleet = fleet.restart().await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert_eq!(fetch(&mut web, &second).await.unwrap(), second);
}

#[tokio::test]
async fn what_is_not_what_it_is_called_is_not_kept_and_no_release_names_what_is_not_there() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    let good = bundle("good");
    assert_eq!(status(keep(&mut ada, &good, &bundle("other")).await), 400);
    assert_eq!(status(keep(&mut ada, b"token: in-clear", b"token: in-clear").await), 400, "it is no bundle");
    let digests = [Digest::of(&[&good])];
    let missing: Vec<Digest> = ada.post("/v1/secrets/missing", &digests, Duration::ZERO).await.unwrap();
    assert_eq!(missing, digests);
    assert_eq!(status(release(&fleet, &good).await), 400);
    // The hub may end the connection of who sends too much.
    let much = vec![b' '; MUCH];
    assert!(keep(&mut ada, &much, &much).await.is_err());

    let (_ada, mut ada) = fleet.http("ada").await;
    keep(&mut ada, &good, &good).await.unwrap();
    keep(&mut ada, &good, &good).await.unwrap();
    let missing: Vec<Digest> = ada.post("/v1/secrets/missing", &digests, Duration::ZERO).await.unwrap();
    assert!(missing.is_empty());
    release(&fleet, &good).await.unwrap();
}

#[tokio::test]
async fn secrets_that_no_release_names_any_more_go() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    let all: Vec<Vec<u8>> = (0..13).map(|number| bundle(&format!("{number}"))).collect();
    for bundle in &all {
        keep(&mut ada, bundle, bundle).await.unwrap();
    }
    for bundle in &all[..12] {
        release(&fleet, bundle).await.unwrap();
    }
    let digests: Vec<Digest> = all.iter().map(|bundle| Digest::of(&[bundle])).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    fleet.hub().tidy(now).await.unwrap();
    let path = "/v1/secrets/missing";
    let missing: Vec<Digest> = ada.post(path, &digests, Duration::ZERO).await.unwrap();
    assert!(missing.is_empty(), "whoever asked about them may publish still");
    fleet.hub().tidy(now + 2 * 24 * 3600).await.unwrap();
    let missing: Vec<Digest> = ada.post(path, &digests, Duration::ZERO).await.unwrap();
    assert_eq!(missing, [digests[0], digests[1], digests[12]], "those of the ten newest releases stay");
}

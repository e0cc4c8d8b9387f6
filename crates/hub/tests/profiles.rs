//! What a hub takes and keeps of hosts with profiles beside their system: one closure has all of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod fleet;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_model::{Profile, ProfileAt, ProfileName, StorePath, UserName};
use bosco_release::{Contents, Digest, Profiles, Runs};
use fleet::{Fleet, status};
use simulated::{changed, draft, hello, publish, upload};

fn home(path: StorePath) -> Profiles {
    let (name, user) = (ProfileName::parse("home").unwrap(), UserName::parse("ada").unwrap());
    Profiles { all: vec![ProfileAt { profile: Profile { name, user, place: None }, path }], only: false }
}

#[tokio::test]
async fn a_release_is_published_and_kept_with_all_that_its_profiles_need() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_link, mut ada) = fleet.http("ada").await;
    let archives: [&[u8]; 2] = [b"a system", b"a home"];
    let (release, closures) = draft(&fleet.file(), 1, &[("web", &archives)]);
    let (digest, contents) = closures.first_key_value().unwrap();
    let paths: Vec<StorePath> = contents.iter().map(|one| one.path.clone()).collect();
    let with = |path: StorePath| {
        changed(&release, |manifest| {
            let (toplevel, profiles) = (paths[0].clone(), home(path.clone()));
            manifest.runs = Runs::System { toplevel, profiles, closure: *digest };
        })
    };
    upload(&mut ada, archives.into_iter()).await.unwrap();
    let elsewhere = StorePath::parse(&format!("/nix/store/{}-home", "z".repeat(32))).unwrap();
    let refused = status(publish(&mut ada, &with(elsewhere), &closures).await);
    assert_eq!(refused, 400, "its profile is not in the closure");
    publish(&mut ada, &with(paths[1].clone()), &closures).await.unwrap();

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    fleet.hub().tidy(now + 2 * 24 * 3600).await.unwrap();
    let hashes: Vec<Digest> = archives.iter().map(|archive| Digest::of(&[archive])).collect();
    let missing: Vec<Digest> = ada.post("/v1/paths/missing", &hashes, Duration::ZERO).await.unwrap();
    assert!(missing.is_empty(), "what a release needs stays");
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    let given: Contents = web.get(&format!("/v1/host/closures/{digest}")).await.unwrap();
    assert_eq!(given.digest(), *digest);
    assert!(given.get(&paths[1]).is_some());
}

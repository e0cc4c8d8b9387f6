//! What hosts and operators get of a hub, over the protocol that they speak.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod fleet;

use std::collections::BTreeMap;
use std::time::Duration;

use bosco_release::{Contents, Digest, Judged, Known, Release, judge};
use bosco_wire::api::{
    Approve, Drafted, FleetStatus, Join, JoinLine, Joining, Next, Orders, ReleaseLine, join_code,
};
use bosco_wire::http::HttpError;
use fleet::{Fleet, status};
use hyper::Method;
use simulated::{hello, host, key, upload};

const WAIT: Duration = Duration::from_secs(20);

async fn orders(http: &mut bosco_wire::http::Http, leaf: Option<Digest>, wait: u64) -> Option<Orders> {
    let leaf = leaf.map(|leaf| format!("leaf={leaf}&")).unwrap_or_default();
    http.wait(&format!("/v1/host/orders?{leaf}wait={wait}"), Duration::from_secs(wait)).await.unwrap()
}

#[tokio::test]
async fn a_release_reaches_a_host_that_waits_and_it_believes_it() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert!(orders(&mut web, None, 0).await.is_none(), "nothing was released yet");
    let waiting = tokio::spawn(async move { (orders(&mut web, None, 20).await, web) });
    let line = fleet.release(&[("web", &[b"a system", b"a library"])]).await;
    assert_eq!((line.number, line.hosts), (1, 1));
    let (heard, mut web) = tokio::time::timeout(WAIT, waiting).await.unwrap().unwrap();
    let sealed = heard.unwrap().sealed.expect("a manifest");
    let known = Known {
        host: host("web"),
        trust: fleet.file().trust_of(&host("web"), &Default::default()),
        highest: 0,
        seen: None,
        hold: None,
        now: 1_800_000_000,
    };
    let Judged::Take(opened) = judge(&known, &sealed) else { panic!("{:?}", judge(&known, &sealed)) };
    assert!(orders(&mut web, Some(opened.leaf), 0).await.is_none(), "it has that one");
    let path = format!("/v1/host/closures/{}", opened.manifest.runs.closure());
    let contents: Contents = web.get(&path).await.unwrap();
    assert_eq!(contents.digest(), opened.manifest.runs.closure());
}

#[tokio::test]
async fn a_host_is_connected_between_two_of_its_questions_and_until_it_goes() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    fleet.release(&[("web", &[b"one"])]).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    let (link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    // The answer is there at once, and the next question is not asked yet.
    assert!(orders(&mut web, None, 20).await.is_some());
    let stands: FleetStatus = ada.get("/v1/status").await.unwrap();
    assert!(stands.hosts[0].connected, "{stands:?}");
    drop(web);
    link.close().await;
    let gone = async {
        while ada.get::<FleetStatus>("/v1/status").await.unwrap().hosts[0].connected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("it is connected for ever");
}

#[tokio::test]
async fn what_a_hub_was_told_survives_its_end() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    fleet.release(&[("web", &[b"one"])]).await;
    fleet.release(&[("web", &[b"two"])]).await;
    let fleet = fleet.restart().await;
    let (_link, mut ada) = fleet.http("ada").await;
    let releases: Vec<ReleaseLine> = ada.get("/v1/releases").await.unwrap();
    assert_eq!(releases.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(ada.get::<Next>("/v1/next").await.unwrap().number, 3);
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert!(orders(&mut web, None, 0).await.unwrap().sealed.is_some());
}

#[tokio::test]
async fn a_hosts_key_opens_nothing_of_an_operators_and_nothing_of_another_hosts() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    fleet.release(&[("web", &[b"secret of web"]), ("bad", &[b"own"])]).await;
    let (_link, mut bad) = fleet.http("bad").await;
    hello(&mut bad, None).await;
    for path in [
        "/v1/status",
        "/v1/next",
        "/v1/releases",
        "/v1/releases/1",
        "/v1/joins",
        "/v1/hosts/web/reports",
        "/v1/hosts/bad/reports",
        "/v1/hosts/../host/orders",
        "/v1/host/closures/../../releases",
        "/v1/host/closures/",
    ] {
        let refused = status(bad.get::<serde_json::Value>(path).await);
        assert!([400, 403, 404].contains(&refused), "{path}: {refused}");
    }
    for path in ["/v1/hosts/web/trigger", "/v1/hosts/web/hold", "/v1/hosts/bad/resume", "/v1/joins/approve"] {
        let why = serde_json::json!({ "why": "", "code": "" });
        assert_eq!(status(bad.send(Method::POST, path, &why).await), 403, "{path}");
    }
    let enroll = serde_json::json!({ "keys": [key("web")] });
    assert_eq!(status(bad.send(Method::PUT, "/v1/hosts/web", &enroll).await), 403);
    assert_eq!(status(bad.send(Method::DELETE, "/v1/hosts/web", &enroll).await), 403);
    let theirs = simulated::contents("web", &[b"secret of web"]);
    let path = format!("/v1/host/closures/{}", theirs.digest());
    assert_eq!(status(bad.get::<Contents>(&path).await), 404, "another host's closure");
    let archive = [Digest::of(&[b"secret of web"])];
    assert_eq!(status(bad.stream("/v1/host/paths", &archive).await), 404, "another host's archive");
    let mixed = [Digest::of(&[b"own"]), archive[0]];
    assert_eq!(status(bad.stream("/v1/host/paths", &mixed).await), 404, "among its own");
    let own = [Digest::of(&[b"own"])];
    assert_eq!(status(bad.stream("/v1/host/paths", &own).await), 200);
    assert_eq!(status(upload(&mut fleet.http("bad").await.1, [b"x".as_slice()].into_iter()).await), 403);
}

#[tokio::test]
async fn a_key_that_is_let_in_no_more_is_sent_away_at_once() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    let (_ada_link, mut ada) = fleet.http("ada").await;
    ada.send(Method::DELETE, "/v1/hosts/web", &()).await.unwrap();
    let still = web.wait::<Orders>("/v1/host/orders?wait=10", Duration::from_secs(10)).await;
    assert!(still.is_err(), "its connection has ended");
    assert!(fleet.link("web", "bosco").await.is_err(), "and it can't come back");
}

#[tokio::test]
async fn an_operator_has_no_say_over_hosts_that_are_not_granted() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "box"]).await;
    fleet.release(&[("web", &[b"1"]), ("box", &[b"2"])]).await;
    let (_link, mut bob) = fleet.http("bob").await;
    let seen: FleetStatus = bob.get("/v1/status").await.unwrap();
    assert_eq!(seen.hosts.iter().map(|line| line.host.as_str()).collect::<Vec<_>>(), ["box"]);
    let none = serde_json::json!({});
    assert_eq!(status(bob.send(Method::POST, "/v1/hosts/web/hold", &none).await), 404);
    assert_eq!(status(bob.send(Method::POST, "/v1/hosts/box/hold", &none).await), 200);
    let enroll = serde_json::json!({ "keys": [key("x")] });
    assert_eq!(status(bob.send(Method::PUT, "/v1/hosts/web", &enroll).await), 403);
    // What somebody else has signed he may carry, where it changes his own hosts only.
    upload(&mut bob, [b"3".as_slice()].into_iter()).await.unwrap();
    let publish = async |bob: &mut bosco_wire::http::Http, number, hosts: &[(&str, &[&[u8]])]| {
        let (release, closures) = simulated::draft(&fleet.file(), number, hosts);
        let drafted =
            Drafted { signer: key("ada"), release: Release { signature: String::new(), ..release.clone() } };
        let asked = status(bob.send(Method::POST, "/v1/releases/draft", &drafted).await);
        let came = status(simulated::publish(bob, &release, &closures).await);
        assert_eq!(asked, came, "it was told something else before");
        came
    };
    assert_eq!(publish(&mut bob, 2, &[("box", &[b"3"])]).await, 403, "web is left out");
    assert_eq!(publish(&mut bob, 2, &[("box", &[b"3"]), ("web", &[b"3"])]).await, 403, "web is changed");
    assert_eq!(publish(&mut bob, 2, &[("box", &[b"3"]), ("web", &[b"1"]), ("new", &[b"3"])]).await, 403);
    assert_eq!(
        publish(&mut bob, 3, &[("box", &[b"3"]), ("web", &[b"1"])]).await,
        409,
        "3 is not the next one"
    );
    assert_eq!(publish(&mut bob, 2, &[("box", &[b"3"]), ("web", &[b"1"])]).await, 200);
}

#[tokio::test]
async fn an_archive_that_comes_twice_in_two_forms_is_given_out_whole() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let archive = b"an archive that can be packed well ".repeat(1000);
    let send = async |level| {
        let (_link, mut ada) = fleet.http("ada").await;
        let stored = zstd::encode_all(archive.as_slice(), level).unwrap();
        let (hash, size) = (Digest::of(&[&archive]), archive.len() as u64);
        let head = bosco_wire::pack::Head { hash, size, stored: stored.len() as u64 };
        let (sender, answer) = ada.upload("/v1/paths");
        let feed = async move {
            sender.send(bytes::Bytes::copy_from_slice(&head.to_bytes())).await.unwrap();
            sender.send(stored.into()).await.unwrap();
        };
        tokio::join!(feed, answer).1.unwrap();
    };
    send(1).await;
    fleet.release(&[("web", &[&archive])]).await;
    send(19).await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    let asked = [Digest::of(&[&archive])];
    let body = web.stream("/v1/host/paths", &asked).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    let unpacked = zstd::decode_all(&bytes[bosco_wire::pack::HEAD..]).unwrap();
    assert!(unpacked == archive, "it is not what was sent");
}

#[tokio::test]
async fn a_folder_has_one_hub() {
    let fleet = Fleet::start().await;
    let Err(error) = bosco_hub::start(&fleet.settings).await else { panic!("there are two") };
    assert!(error.to_string().contains("another"), "{error}");
    fleet.enroll(&["web"]).await;
}

#[tokio::test]
async fn a_release_is_whole_signed_and_next_or_it_is_not_published() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_link, mut ada) = fleet.http("ada").await;
    let publish = async |ada: &mut bosco_wire::http::Http, release, closures| {
        status(simulated::publish(ada, &release, &closures).await)
    };
    let is_missing = async |ada: &mut bosco_wire::http::Http, closures: &BTreeMap<Digest, Contents>| {
        let asked: Vec<&Digest> = closures.keys().collect();
        let missing: Vec<Digest> = ada.post("/v1/closures/missing", &asked, Duration::ZERO).await.unwrap();
        !missing.is_empty()
    };
    let (release, closures) = simulated::draft(&fleet.file(), 1, &[("web", &[b"one"])]);
    assert_eq!(publish(&mut ada, release.clone(), closures.clone()).await, 400, "its archives are not there");
    upload(&mut ada, [b"one".as_slice()].into_iter()).await.unwrap();
    assert!(is_missing(&mut ada, &closures).await, "it was not kept without its archives");
    assert_eq!(publish(&mut ada, release.clone(), Default::default()).await, 400, "its closure is not there");
    let mut unsigned = release.clone();
    unsigned.signature.clear();
    assert_eq!(publish(&mut ada, unsigned, closures.clone()).await, 400, "this hub does not sign");
    let mut other = release.clone();
    other.manifests[0] = other.manifests[0].replace("web", "wab");
    assert_eq!(publish(&mut ada, other, closures.clone()).await, 400, "a manifest that was not signed");
    assert!(!is_missing(&mut ada, &closures).await);
    assert_eq!(publish(&mut ada, release.clone(), Default::default()).await, 200, "its closure is there");
    assert_eq!(publish(&mut ada, release, closures.clone()).await, 409, "a number is used once");
}

#[tokio::test]
async fn two_who_publish_at_once_do_not_get_the_same_number() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_link, mut ada) = fleet.http("ada").await;
    upload(&mut ada, [b"one".as_slice(), b"two"].into_iter()).await.unwrap();
    let publish = async |archive: &'static [u8]| {
        let (_link, mut http) = fleet.http("ada").await;
        let (release, closures) = simulated::draft(&fleet.file(), 1, &[("web", &[archive])]);
        status(simulated::publish(&mut http, &release, &closures).await)
    };
    let (one, two) = tokio::join!(publish(b"one"), publish(b"two"));
    let mut both = [one, two];
    both.sort_unstable();
    assert_eq!(both, [200, 409]);
}

#[tokio::test]
async fn a_machine_joins_by_the_code_that_it_shows_and_nothing_before() {
    let fleet = Fleet::start().await;
    let link = fleet.link("new", "join").await.unwrap();
    let mut http = link.http().await.unwrap();
    assert_eq!(status(http.get::<FleetStatus>("/v1/status").await), 403);
    assert_eq!(status(http.wait::<Orders>("/v1/host/orders?wait=0", Duration::ZERO).await), 403);
    let join = Join { host: host("new"), wait: 20 };
    let asks = tokio::spawn(async move { http.post::<Joining>("/v1/join", &join, WAIT).await });
    let (_ada, mut ada) = fleet.http("ada").await;
    let asking = async {
        loop {
            let asking: Vec<JoinLine> = ada.get("/v1/joins").await.unwrap();
            if let [one] = asking.as_slice() {
                break one.clone();
            }
        }
    };
    let asking = tokio::time::timeout(WAIT, asking).await.expect("it asks to be let in");
    let code = join_code(&host("new"), &key("new"), link.hub_key().unwrap());
    assert_eq!((asking.host, asking.code), (host("new"), code.clone()));
    // Whoever says to be another host meanwhile shows another code.
    let other = Approve { code: join_code(&host("web"), &key("new"), link.hub_key().unwrap()) };
    assert_eq!(status(ada.post::<JoinLine>("/v1/joins/approve", &other, Duration::ZERO).await), 404);
    let wrong = Approve { code: join_code(&host("new"), &key("other"), link.hub_key().unwrap()) };
    let refused = ada.post::<JoinLine>("/v1/joins/approve", &wrong, Duration::ZERO).await;
    assert_eq!(status(refused), 404);
    ada.post::<JoinLine>("/v1/joins/approve", &Approve { code }, Duration::ZERO).await.unwrap();
    let joining = tokio::time::timeout(WAIT, asks).await.unwrap().unwrap().unwrap();
    assert_eq!(joining.trust.unwrap().fleet.as_str(), "home");
    let (_link, mut new) = fleet.http("new").await;
    hello(&mut new, None).await;

    // Nobody takes the place of a host that is there.
    let link = fleet.link("thief", "join").await.unwrap();
    let mut http = link.http().await.unwrap();
    let join = Join { host: host("new"), wait: 5 };
    let thief = tokio::spawn(async move { http.post::<Joining>("/v1/join", &join, WAIT).await });
    while ada.get::<Vec<JoinLine>>("/v1/joins").await.unwrap().is_empty() {}
    let code = join_code(&host("new"), &key("thief"), link.hub_key().unwrap());
    assert_eq!(
        status(ada.post::<JoinLine>("/v1/joins/approve", &Approve { code }, Duration::ZERO).await),
        409
    );
    thief.abort();
}

#[tokio::test]
async fn a_stranger_without_a_reason_is_not_let_in() {
    let fleet = Fleet::start().await;
    assert!(fleet.link("stranger", "bosco").await.is_err());
    assert!(fleet.link("stranger", "root").await.is_err());
}

#[tokio::test]
async fn a_cloned_machine_raises_an_alarm_and_one_that_roams_or_loses_an_answer_does_not() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let mut token = None;
    for _ in 0..5 {
        // From wherever it comes.
        let (_link, mut web) = fleet.http("web").await;
        let welcome = hello(&mut web, token).await;
        assert_eq!(welcome.alarm, None);
        token = Some(welcome.ratchet);
        orders(&mut web, None, 0).await;
    }
    let (_link, mut web) = fleet.http("web").await;
    // Its answer is lost: it says again what it has.
    hello(&mut web, token.clone()).await;
    let welcome = hello(&mut web, token.clone()).await;
    assert_eq!(welcome.alarm, None, "an answer was lost");
    orders(&mut web, None, 0).await;
    let (_link, mut clone) = fleet.http("web").await;
    let alarm = hello(&mut clone, token).await.alarm;
    assert!(alarm.is_some_and(|alarm| alarm.contains("two machines")), "a copy of its disk");
    let (_ada, mut ada) = fleet.http("ada").await;
    let seen: FleetStatus = ada.get("/v1/status").await.unwrap();
    assert_eq!(seen.hosts[0].alarms.len(), 1, "operators see it");
}

#[tokio::test]
async fn what_is_past_its_time_goes_and_what_a_release_needs_stays() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "old"]).await;
    let all: Vec<Vec<u8>> = (0..14).map(|number| format!("archive {number}").into_bytes()).collect();
    for archive in &all {
        fleet.release(&[("web", &[archive, b"common"])]).await;
    }
    let (_link, mut ada) = fleet.http("ada").await;
    let hashes: Vec<Digest> = all.iter().map(|archive| Digest::of(&[archive])).collect();
    let day = 24 * 3600;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    fleet.hub().tidy(now).await.unwrap();
    let path = "/v1/paths/missing";
    let missing: Vec<Digest> = ada.post(path, &hashes, Duration::ZERO).await.unwrap();
    assert!(missing.is_empty(), "whoever asked about them may publish still");
    fleet.hub().tidy(now + 2 * day).await.unwrap();
    let missing: Vec<Digest> = ada.post(path, &hashes, Duration::ZERO).await.unwrap();
    assert_eq!(missing, hashes[..4], "those of the ten newest releases stay");
    let common = [Digest::of(&[b"common"])];
    assert!(ada.post::<Vec<Digest>>(path, &common, Duration::ZERO).await.unwrap().is_empty());
    let releases: Vec<ReleaseLine> = ada.get("/v1/releases").await.unwrap();
    assert_eq!(releases.len(), 14, "releases are the history");
    // A closure that no release names yet stays for a while, and with it what it needs.
    upload(&mut ada, [b"later".as_slice()].into_iter()).await.unwrap();
    let later = simulated::contents("web", &[b"later"]);
    let _: Digest = ada.post("/v1/closures", &later, Duration::ZERO).await.unwrap();
    let is_there = async |ada: &mut bosco_wire::http::Http| {
        let missing: Vec<Digest> =
            ada.post("/v1/closures/missing", &[later.digest()], Duration::ZERO).await.unwrap();
        missing.is_empty()
    };
    fleet.hub().tidy(now).await.unwrap();
    assert!(is_there(&mut ada).await);
    fleet.hub().tidy(now + 2 * day).await.unwrap();
    assert!(!is_there(&mut ada).await);

    // What a host has left goes some time after it.
    let left = fleet.settings.state.join("hosts/old/backup");
    std::fs::create_dir_all(&left).unwrap();
    ada.send(Method::DELETE, "/v1/hosts/old", &()).await.unwrap();
    fleet.hub().tidy(now + 29 * day).await.unwrap();
    assert!(left.exists());
    fleet.hub().tidy(now + 31 * day).await.unwrap();
    assert!(!left.exists());
    assert!(fleet.settings.state.join("hub.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_others_go_is_whole() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "box"]).await;
    let path = fleet.settings.fleet.clone();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}[retention]\nreleases = 1\n")).unwrap();
    fleet.hub().reload(&fleet.settings).await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Nothing has a grace: the time of all that came is over at once.
    let over = now + 2 * 24 * 3600;
    let (_link, mut ada) = fleet.http("ada").await;
    for round in 0..10_u64 {
        let own = format!("archive {round}").into_bytes();
        let hosts: [(&str, &[&[u8]]); 2] = [("web", &[&own, b"common"]), ("box", &[b"common"])];
        let mut publish = async || {
            let next: Next = ada.get("/v1/next").await.unwrap();
            let (release, closures) = simulated::draft(&fleet.file(), next.number, &hosts);
            upload(&mut ada, [own.as_slice(), b"common"].into_iter()).await.unwrap();
            status(simulated::publish(&mut ada, &release, &closures).await)
        };
        let (came, ()) = tokio::join!(publish(), async {
            for _ in 0..round {
                fleet.hub().tidy(over).await.unwrap();
            }
        });
        // What went before it was published is sent again, as `bosco release` does.
        match came {
            200 => {}
            other => assert_eq!((other, publish().await), (400, 200)),
        }
        fleet.hub().tidy(over).await.unwrap();
        let (_link, mut web) = fleet.http("web").await;
        hello(&mut web, None).await;
        let contents = simulated::contents("web", &[&own, b"common"]);
        let of = format!("/v1/host/closures/{}", contents.digest());
        assert_eq!(web.get::<Contents>(&of).await.unwrap(), contents);
        let asked: Vec<Digest> = contents.iter().map(|one| one.hash).collect();
        let body = web.stream("/v1/host/paths", &asked).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        assert!(bytes.len() > 2 * bosco_wire::pack::HEAD, "round {round}: an archive is missing");
    }
}

#[tokio::test]
async fn where_many_fetch_another_one_is_told_when_to_come_back_and_gets_its_turn() {
    let fleet = Fleet::start().await;
    let names: Vec<String> = (0..33).map(|number| format!("web{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fleet.enroll(&names).await;
    // More than is under way to who does not read, and not to be packed.
    let archive: Vec<u8> =
        (0..100_000_u32).flat_map(|at| *Digest::of(&[&at.to_le_bytes()]).as_bytes()).collect();
    let archives = [archive.as_slice()];
    let hosts: Vec<(&str, &[&[u8]])> = names.iter().map(|name| (*name, archives.as_slice())).collect();
    fleet.release(&hosts).await;
    let asked = [Digest::of(&[&archive])];
    let mut fetching = Vec::new();
    for name in &names[1..] {
        // What is not read over a connection holds up all of it.
        for _ in 0..2 {
            let (link, mut http) = fleet.http(name).await;
            let body = http.stream("/v1/host/paths", &asked).await.unwrap();
            fetching.push((link, http, body));
        }
    }
    let (_link, mut late) = fleet.http(names[0]).await;
    let refused = late.stream("/v1/host/paths", &asked).await;
    assert!(matches!(refused, Err(HttpError::Busy(wait)) if !wait.is_zero()), "{refused:?}");
    fetching.pop();
    let turn = async {
        loop {
            match late.stream("/v1/host/paths", &asked).await {
                Err(HttpError::Busy(_)) => {}
                answer => break answer.unwrap(),
            }
        }
    };
    let body = tokio::time::timeout(2 * WAIT, turn).await.expect("it never gets its turn");
    let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    assert!(bytes.len() > archive.len());
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_given_again_and_one_that_came_is_not() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    let none = serde_json::json!({});
    let (link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert!(orders(&mut web, None, 1).await.is_none());
    ada.send(Method::POST, "/v1/hosts/web/trigger", &none).await.unwrap();
    assert!(orders(&mut web, None, 10).await.unwrap().trigger);
    // For all that the hub knows, that never came.
    link.close().await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert!(orders(&mut web, None, 10).await.unwrap().trigger, "it is told again");
    assert!(orders(&mut web, None, 0).await.is_none(), "who asks for more has heard it");
    ada.send(Method::POST, "/v1/hosts/web/hold", &serde_json::json!({ "why": "a try" })).await.unwrap();
    assert_eq!(orders(&mut web, None, 10).await.unwrap().held.as_deref(), Some("ada: a try"));
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
    assert!(orders(&mut web, None, 10).await.unwrap().held.is_some(), "each connection is told");
    ada.send(Method::POST, "/v1/hosts/web/resume", &none).await.unwrap();
    let heard = orders(&mut web, None, 10).await.unwrap();
    assert!(heard.held.is_none() && heard.trigger, "{heard:?}");
}

/// What is in the `/config` of a host on the hub's disk: names and contents.
fn laid(fleet: &Fleet, host: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root = fleet.settings.state.join("hosts").join(host).join("config");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A release of trees, each with one file of that text in a folder, and of systems where there is none.
async fn release_trees(fleet: &Fleet, hosts: &[(&str, Option<&str>)]) {
    let folder = fleet.dir.join("archives");
    let _ = std::fs::remove_dir_all(&folder);
    let archive = |(name, text): &(&str, Option<&str>)| {
        let Some(text) = text else { return format!("system of {name}").into_bytes() };
        let tree = folder.join(name);
        std::fs::create_dir_all(tree.join("utils")).unwrap();
        std::fs::write(tree.join("utils/motd"), text).unwrap();
        let mut archive = Vec::new();
        nix_archive::nar::encode_path(&mut archive, &tree, nix_archive::nar::CaseHack::Disabled).unwrap();
        archive
    };
    let archives: Vec<Vec<u8>> = hosts.iter().map(archive).collect();
    let parts: Vec<[&[u8]; 1]> = archives.iter().map(|archive| [archive.as_slice()]).collect();
    let drafted: Vec<(&str, &[&[u8]])> =
        hosts.iter().zip(&parts).map(|((name, _), part)| (*name, part.as_slice())).collect();
    let trees: Vec<&str> = hosts.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| *name).collect();
    fleet.release_of(&drafted, &trees).await;
}

#[tokio::test]
async fn a_host_that_builds_itself_finds_its_files_and_no_other_hosts() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "db"]).await;
    let is = |host: &str, text: &str| assert_eq!(laid(&fleet, host), [("utils/motd".into(), text.into())]);
    release_trees(&fleet, &[("web", Some("of web")), ("db", Some("of db")), ("later", Some("of later"))])
        .await;
    is("web", "of web");
    is("db", "of db");
    assert_eq!(laid(&fleet, "later"), [], "nobody has let it in");
    fleet.enroll(&["later"]).await;
    is("later", "of later");

    // The next one replaces all of it; what is no tree any more leaves nothing.
    let own = fleet.settings.state.join("hosts/web/config/mine");
    std::fs::write(&own, "x").unwrap();
    release_trees(&fleet, &[("web", Some("newer")), ("db", None), ("later", Some("of later"))]).await;
    is("web", "newer");
    is("later", "of later");
    assert_eq!(laid(&fleet, "db"), []);
}

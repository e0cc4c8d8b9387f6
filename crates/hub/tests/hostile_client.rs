//! What hosts, strangers and whoever reaches the port can do to a hub that are out to harm it: others are served, and what the
//! hub keeps has bounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod fleet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bosco_activation::{Ending, Report};
use bosco_model::{Activity, ActivityStage, HIGHEST, Kernel, Observed, StorePath};
use bosco_release::{Digest, HostReport, REPORT_NAMESPACE, SignedReport};
use bosco_wire::api::{FleetStatus, Hello, Next, ReportLine, Standing, Welcome};
use bosco_wire::http::Http;
use bosco_wire::link::{Hub, Link, Width};
use fleet::{Fleet, status};
use http_body_util::BodyExt;
use hyper::Method;
use russh::client;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use simulated::{hello, host, identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// How long an honest one may have to wait, whatever others do.
const SOON: Duration = Duration::from_secs(10);

/// Sockets that come from an address of their own, say that they speak SSH, and nothing more.
async fn half_open(fleet: &Fleet, from: &str, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(fleet.hub().address).await.unwrap();
        let _ = stream.write_all(b"SSH-2.0-none\r\n").await;
        sockets.push(stream);
    }
    sockets
}

/// Waits until something holds.
async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What this process has in memory, in bytes: the hub and those who attack it.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Bytes that no compression makes smaller.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|block| *Digest::of(&[seed.as_bytes(), &block.to_le_bytes()]).as_bytes());
    blocks.take(length).collect()
}

/// A request as it is written, over a channel of its own, and the head of its answer.
async fn raw(link: &Link, request: &[u8]) -> String {
    let mut stream = link.open("bosco", 80).await.unwrap();
    // Who refuses early need not read all of it.
    let _ = timeout(SOON, stream.write_all(request)).await;
    let mut answer = vec![0; 400];
    let read = timeout(SOON, stream.read(&mut answer)).await.expect("an answer, or the end").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let head = "host: bosco\r\ncontent-type: application/json";
    format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn logins_that_are_begun_and_left_keep_nobody_else_from_logging_in() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let attackers = half_open(&fleet, "127.0.0.2", 700).await;
    for _ in 0..3 {
        timeout(SOON, fleet.http("web")).await.expect("a place, though others take all of them");
    }
    drop(attackers);
}

#[tokio::test]
async fn a_login_that_does_not_come_to_an_end_is_cut_off() {
    let fleet = Fleet::start().await;
    for mut socket in half_open(&fleet, "127.0.0.3", 3).await {
        // Its own part of the exchange of keys comes, and then nothing, until the end.
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(45), socket.read_to_end(&mut said)).await;
        let _ = ended.expect("the hub ends it by itself");
    }
}

#[tokio::test]
async fn a_key_has_so_many_connections_and_those_of_others_are_their_own() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let mut links = Vec::new();
    for _ in 0..40 {
        links.push(fleet.link("bad", "bosco").await.unwrap());
    }
    let open = || links.iter().filter(|link| !link.is_closed()).count();
    until("at most 24 of 40 stay", SOON, async || open() == 24).await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
}

#[tokio::test]
async fn strangers_fill_no_place_but_their_own() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web"]).await;
    let mut links = Vec::new();
    for number in 0..40 {
        links.push(fleet.link(&format!("stranger-{number}"), "join").await.unwrap());
    }
    let open = || links.iter().filter(|link| !link.is_closed()).count();
    until("at most 24 of 40 stay", SOON, async || open() == 24).await;
    let (_link, mut web) = fleet.http("web").await;
    hello(&mut web, None).await;
}

struct Anyone;

impl client::Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

#[tokio::test]
async fn a_connection_has_so_many_channels_of_whatever_kind() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["bad"]).await;
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect(config, fleet.hub().address, Anyone).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(identity("bad")), Some(HashAlg::Sha512));
    assert!(handle.authenticate_publickey("bosco", key).await.unwrap().success());
    let mut kept = Vec::new();
    for _ in 0..10 {
        let channel = handle.channel_open_session().await.unwrap();
        channel.request_subsystem(true, "sftp").await.unwrap();
        // The next one can come when this one is what it asked for.
        sleep(Duration::from_millis(20)).await;
        kept.push(channel);
    }
    for _ in 0..30 {
        kept.extend(handle.channel_open_direct_tcpip("bosco", 80, "127.0.0.1", 0).await);
        kept.extend(match handle.channel_open_session().await {
            Ok(channel) => channel.request_subsystem(true, "sftp").await.ok().map(|()| channel),
            Err(_) => None,
        });
    }
    assert_eq!(kept.len(), 16);
    let (_link, mut ada) = fleet.http("ada").await;
    ada.get::<FleetStatus>("/v1/status").await.unwrap();
}

#[tokio::test]
async fn requests_beyond_all_measure_are_refused() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["bad"]).await;
    let (link, mut bad) = fleet.http("bad").await;
    let head = format!("GET /v1/host/orders HTTP/1.1\r\nhost: bosco\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let said = raw(&link, head.as_bytes()).await;
    assert!(said.is_empty() || said.contains(" 431 "), "a giant head: {said}");
    let heads = format!("GET / HTTP/1.1\r\nhost: bosco\r\n{}\r\n", "x: y\r\n".repeat(2000));
    let said = raw(&link, heads.as_bytes()).await;
    assert!(said.is_empty() || said.contains(" 431 "), "too many heads: {said}");
    for path in ["/v1/host/hello", "/v1/host/standing", "/v1/host/reports", "/v1/host/paths", "/v1/join"] {
        let said = raw(&link, &post(path, &format!("\"{}\"", "x".repeat(600 * 1024)))).await;
        assert!(said.contains(" 413 "), "{path}, a giant body: {said}");
        let said = raw(&link, &post(path, &"[".repeat(200_000))).await;
        assert!(said.contains(" 400 ") || said.contains(" 422 "), "{path}, depth: {said}");
    }
    // What has no end has no announced length: it is not read to it.
    let endless = format!(
        "POST /v1/host/paths HTTP/1.1\r\nhost: bosco\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(64)
    );
    let said = raw(&link, endless.as_bytes()).await;
    assert!(said.contains(" 413 "), "an endless body: {said}");
    // Only an operator sends what is long, and who is none is told so before any of it is read.
    for path in ["/v1/releases", "/v1/paths", "/v1/paths/missing"] {
        let said = raw(&link, format!("POST {path} HTTP/1.1\r\nhost: bosco\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n").as_bytes()).await;
        assert!(said.contains(" 403 "), "{path}: {said}");
    }
    hello(&mut bad, None).await;
}

/// The hub, as somebody who reads no more of a connection than its beginning.
async fn unread(fleet: &Fleet, who: &str) -> Hub {
    let most = 100_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, hub) = (listener.local_addr().unwrap().to_string(), fleet.hub().address);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_hub, mut to_hub) = TcpStream::connect(hub).await.unwrap().into_split();
            let (mut from_client, mut to_client) = client.into_split();
            let some = async move {
                let _ = tokio::io::copy(&mut (&mut from_hub).take(most), &mut to_client).await;
                // Both ends stay, and nothing flows.
                std::future::pending::<()>().await;
                drop((from_hub, to_client));
            };
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_hub) => {}
                    () = some => {}
                }
            });
        }
    });
    Hub { address, keys: vec![fleet.hub().key.clone()], identity: Arc::new(identity(who)) }
}

#[tokio::test]
async fn who_never_reads_what_they_asked_for_keeps_nobody_else_from_it() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (theirs, own) = (noise("bad", 4_000_000), noise("web", 500_000));
    fleet.release(&[("bad", &[&theirs]), ("web", &[&own])]).await;
    let before = memory();
    let hub = unread(&fleet, "bad").await;
    let asked = post("/v1/host/paths", &serde_json::to_string(&[Digest::of(&[&theirs])]).unwrap());
    let mut unread = Vec::new();
    for _ in 0..20 {
        let link = hub.connect("bosco", Width::Narrow).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(link.open("bosco", 80).await.unwrap());
        }
        for stream in &mut streams {
            stream.write_all(&asked).await.unwrap();
        }
        unread.push((link, streams));
    }
    sleep(Duration::from_secs(1)).await;
    let (_link, mut web) = fleet.http("web").await;
    let body = timeout(SOON, web.stream("/v1/host/paths", &[Digest::of(&[&own])])).await.unwrap().unwrap();
    let came = timeout(SOON, body.collect()).await.expect("its archive, though others take theirs slowly");
    assert!(came.unwrap().to_bytes().len() > own.len() / 2);
    let grown = memory().saturating_sub(before);
    assert!(grown < 150 << 20, "{} MiB for 160 answers of 4 MB that nobody reads", grown >> 20);
}

#[tokio::test]
async fn bodies_that_come_byte_by_byte_keep_nobody_waiting() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (mut slow, mut links) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let link = fleet.link("bad", "bosco").await.unwrap();
        for _ in 0..16 {
            let mut stream = link.open("bosco", 80).await.unwrap();
            let request = post("/v1/host/reports", &" ".repeat(10_000));
            stream.write_all(&request[..200]).await.unwrap();
            slow.push(stream);
        }
        links.push(link);
    }
    let served = async {
        let (_link, mut web) = fleet.http("web").await;
        hello(&mut web, None).await;
    };
    timeout(SOON, served).await.unwrap();
}

#[tokio::test]
async fn who_is_let_in_no_more_is_cut_off_even_if_they_read_nothing() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["bad"]).await;
    let archive = noise("bad", 4_000_000);
    fleet.release(&[("bad", &[&archive])]).await;
    let hub = unread(&fleet, "bad").await;
    let link = hub.connect("bosco", Width::Narrow).await.unwrap();
    let mut stream = link.open("bosco", 80).await.unwrap();
    let asked = post("/v1/host/paths", &serde_json::to_string(&[Digest::of(&[&archive])]).unwrap());
    stream.write_all(&asked).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let (_ada, mut ada) = fleet.http("ada").await;
    ada.send(Method::DELETE, "/v1/hosts/bad", &()).await.unwrap();
    // That nobody is there any more is told to who sends something.
    let is_gone = async || {
        let _ = timeout(Duration::from_millis(100), stream.write_all(b"x")).await;
        link.is_closed()
    };
    until("its connection ends", SOON, is_gone).await;
}

fn report(id: &str, log: &str) -> SignedReport {
    let report = Report {
        id: id.into(),
        toplevel: StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap(),
        ending: Ending::Committed { reboot: false, proven: true },
        running: None,
        generation: None,
        stuck: None,
        log: String::new(),
    };
    let said = HostReport {
        fleet: "home".to_owned().try_into().unwrap(),
        host: host("bad"),
        id: id.into(),
        number: 1,
        automatic: false,
        began: 0,
        ended: u64::MAX,
        report,
        log: log.into(),
    };
    let report = serde_json::to_string(&said).unwrap();
    let signed = identity("bad").sign(REPORT_NAMESPACE, HashAlg::Sha512, report.as_bytes());
    SignedReport { report, signature: signed.unwrap().to_pem(LineEnding::LF).unwrap() }
}

async fn reports(ada: &mut Http) -> Vec<ReportLine> {
    ada.get("/v1/hosts/bad/reports?last=1000").await.unwrap()
}

#[tokio::test]
async fn of_a_host_that_reports_without_end_the_newest_reports_are_kept() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (_link, mut bad) = fleet.http("bad").await;
    for number in 0..260 {
        let report = report(&format!("small-{number}"), "");
        bad.send(Method::POST, "/v1/host/reports", &report).await.unwrap();
    }
    let count = async || {
        let file = fleet.settings.state.join("hub.sqlite");
        let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}?mode=ro", file.display())).await.unwrap();
        let count = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM reports").fetch_one(&pool).await;
        count.unwrap()
    };
    assert_eq!(count().await, 200);
    let long = "\u{1b}".repeat(40_000);
    for number in 0..60 {
        let report = report(&format!("long-{number}"), &long);
        bad.send(Method::POST, "/v1/host/reports", &report).await.unwrap();
    }
    assert!(count().await < 40, "those that are long take their own room");
    let (_link, mut ada) = fleet.http("ada").await;
    let kept = reports(&mut ada).await;
    assert_eq!(kept[0].report.id, "long-59");
    assert!(kept.len() > 10);
}

#[tokio::test]
async fn a_report_of_what_nobody_could_have_asked_for_is_refused() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["bad"]).await;
    let (_link, mut bad) = fleet.http("bad").await;
    for id in ["", "../../x", "a b", "\u{1b}[2J", "a\nb", "\u{202e}x", &"x".repeat(100_000)] {
        let refused = bad.send(Method::POST, "/v1/host/reports", &report(id, "")).await;
        assert_eq!(status(refused), 400, "{id:.20}");
    }
    let (_link, mut ada) = fleet.http("ada").await;
    assert!(reports(&mut ada).await.is_empty());
}

/// The worst that a host could say of itself, as long as it may be.
fn poison() -> Standing {
    let long = "\u{1b}]0;\u{7}\u{202e}evil\r\n".repeat(400);
    let path = |number: usize| StorePath::parse(&format!("/nix/store/{number:032}-x")).unwrap();
    let observed = Observed {
        system: Some(long.clone()),
        boot: Some(long.clone()),
        specialisation: Some(long.clone()),
        current: Some(path(1)),
        activity: Some(Activity {
            toplevel: path(1),
            profiles: Vec::new(),
            by: long.clone(),
            since: u64::MAX,
            stage: ActivityStage::Committed,
            words: long.clone(),
            log: long.clone(),
        }),
        unprotected: vec![long[..100].into(); 500],
        quarantined: (0..500).map(|number| (path(number), long[..100].into())).collect::<BTreeMap<_, _>>(),
        number: u64::MAX,
        booted_kernel: Kernel(vec![long[..100].into(); 200]),
        current_kernel: Kernel(vec![long.clone(); 4]),
        free: Some(u64::MAX),
        ..Observed::default()
    };
    Standing {
        observed,
        highest: u64::MAX,
        why: Some(long.clone()),
        alarms: vec![long[..100].into(); 500],
        trust: u64::MAX,
        rhythm: Some(u64::MAX),
        version: long,
        ..Standing::default()
    }
}

#[tokio::test]
async fn what_a_host_says_of_itself_is_cleaned_and_capped_before_it_is_kept_or_shown() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (_link, mut bad) = fleet.http("bad").await;
    let asked = Hello { ratchet: Some("x".repeat(10_000)), standing: poison() };
    let _: Welcome = bad.post("/v1/host/hello", &asked, Duration::ZERO).await.unwrap();
    bad.send(Method::POST, "/v1/host/standing", &poison()).await.unwrap();
    let shown = async |fleet: &Fleet| {
        let (_link, mut ada) = fleet.http("ada").await;
        ada.get::<FleetStatus>("/v1/status").await.unwrap()
    };
    let fleet = {
        let seen = shown(&fleet).await;
        assert_eq!(seen.hosts.len(), 2);
        fleet.restart().await
    };
    for line in shown(&fleet).await.hosts {
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.len() < 60_000, "{} bytes of {}", text.len(), line.host);
        let words = line.alarms.iter().chain(&line.reason);
        assert!(words.clone().count() <= 22);
        for word in words {
            assert!(!word.contains(|c: char| c.is_control() || c == '\u{202e}'), "{word:?}");
        }
    }
    let file = fleet.settings.state.join("hub.sqlite");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}?mode=ro", file.display())).await.unwrap();
    let query = "SELECT MAX(LENGTH(standing)) FROM hosts";
    let kept: i64 = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
    assert!((1..80_000).contains(&kept), "{kept} bytes are kept of it");
}

#[tokio::test]
async fn a_host_that_says_to_be_far_ahead_does_not_stop_the_next_release() {
    let fleet = Fleet::start().await;
    fleet.enroll(&["web", "bad"]).await;
    let (_link, mut bad) = fleet.http("bad").await;
    let (_ada, mut ada) = fleet.http("ada").await;
    for highest in [u64::MAX, u64::MAX - 1, HIGHEST, HIGHEST - 1, i64::MAX as u64] {
        let standing = Standing { highest, ..Standing::default() };
        bad.send(Method::POST, "/v1/host/standing", &standing).await.unwrap();
        assert_eq!(ada.get::<Next>("/v1/next").await.unwrap().number, 1, "{highest}");
    }
    assert_eq!(fleet.release(&[("web", &[b"one"])]).await.number, 1);
    assert_eq!(fleet.release(&[("web", &[b"two"])]).await.number, 2);
}

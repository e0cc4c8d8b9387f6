//! A hub that is killed again and again while releases come in and go out: what it has said yes to stays, and once.
//!
//! The hub is a process of its own, this very program, so that it can be killed as a power cut would: without a word. Hosts
//! are simulated to the point that they speak the real protocol, judge what they are given, and report until they are told
//! that it was taken. How often it is killed is `BOSCO_KILLS`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bosco_activation::{Ending, Report};
use bosco_hub::Settings;
use bosco_model::StorePath;
use bosco_release::{
    Digest, HostReport, Judged, Known, Number, REPORT_NAMESPACE, SignedReport, Trust, judge,
};
use bosco_wire::api::{Hello, Next, Orders, ReleaseLine, ReportLine, Standing};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::link::{Hub, Link, Width};
use fleet::Fleet;
use hyper::Method;
use russh::keys::HashAlg;
use russh::keys::ssh_key::LineEnding;
use simulated::{host, identity, upload};
use tokio::time::{Instant, sleep, timeout};

/// Where the process that is to be a hub finds what to do.
const TASK: &str = "BOSCO_TEST_HUB";
/// How often the hub is killed where nothing else is said.
const KILLS: u64 = 25;
/// How many hosts there are.
const HOSTS: [&str; 10] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"];
/// How long a hub lives at most.
const ROUND: Duration = Duration::from_secs(5);
/// How long everybody has to come together once the hub stays.
const SETTLE: Duration = Duration::from_secs(60);

/// Not a test of its own: what the hub's process runs.
#[test]
#[ignore = "the hub's process of the other test"]
fn is_the_hub() {
    let Ok(task) = std::env::var(TASK) else { return };
    let [state, listen, fleet]: [&str; 3] =
        task.split('\n').collect::<Vec<_>>().try_into().expect("a task of three lines");
    let settings = Settings { state: state.into(), listen: listen.into(), fleet: fleet.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bosco_hub::run(&settings)).unwrap();
}

/// The hub's process; it goes with this.
struct Process(Child);

impl Process {
    fn start(settings: &Settings) -> Self {
        let text = |path: &Path| path.display().to_string();
        let task = [text(&settings.state), settings.listen.clone(), text(&settings.fleet)].join("\n");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "is_the_hub", "--ignored", "--nocapture"])
            .env(TASK, task)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was said yes to.
#[derive(Default)]
struct Promised {
    releases: BTreeMap<Number, ReleaseLine>,
    reports: BTreeSet<(String, String)>,
}

/// What all who take part share.
struct World {
    hub: Hub,
    trust: Trust,
    promised: Mutex<Promised>,
    over: AtomicBool,
    alarms: Mutex<Vec<String>>,
}

impl World {
    async fn connect(&self, who: &str) -> Option<(Link, Http)> {
        let hub = Hub { identity: Arc::new(identity(who)), ..self.hub.clone() };
        let link = timeout(Duration::from_secs(10), hub.connect("bosco", Width::Narrow)).await.ok()?.ok()?;
        let http = link.http().await.ok()?;
        Some((link, http))
    }

    /// How often it was said yes.
    fn promises(&self) -> usize {
        let promised = self.promised.lock().unwrap();
        promised.releases.len() + promised.reports.len()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A host: it takes what it is given where it believes it, and reports until it is told that the report was taken.
async fn be_host(world: Arc<World>, name: &'static str, runs: Arc<AtomicU64>) {
    let mut seen: Option<(Number, Digest)> = None;
    let mut queue: Vec<(String, SignedReport)> = Vec::new();
    let mut ratchet = None;
    while !world.is_over() || !queue.is_empty() {
        let Some((_link, mut http)) = world.connect(name).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _: Result<(), HttpError> = async {
            let standing = Standing { highest: seen.map_or(0, |(number, _)| number), ..Standing::default() };
            let hello = Hello { ratchet: ratchet.clone(), standing };
            let welcome: bosco_wire::api::Welcome =
                http.post("/v1/host/hello", &hello, Duration::ZERO).await?;
            ratchet = Some(welcome.ratchet);
            loop {
                while let Some((id, report)) = queue.first() {
                    http.send(Method::POST, "/v1/host/reports", report).await?;
                    world.promised.lock().unwrap().reports.insert((name.to_owned(), id.clone()));
                    queue.remove(0);
                }
                if world.is_over() {
                    return Ok(());
                }
                let leaf = seen.map(|(_, leaf)| format!("leaf={leaf}&")).unwrap_or_default();
                let path = format!("/v1/host/orders?{leaf}wait=1");
                let orders: Option<Orders> = http.wait(&path, Duration::from_secs(1)).await?;
                let Some(sealed) = orders.and_then(|orders| orders.sealed) else { continue };
                let known = Known {
                    host: host(name),
                    trust: world.trust.clone(),
                    highest: seen.map_or(0, |(number, _)| number),
                    seen,
                    hold: None,
                    now: 1_800_000_000,
                };
                match judge(&known, &sealed) {
                    Judged::Take(opened) => {
                        let number = opened.manifest.number;
                        seen = Some((number, opened.leaf));
                        let id = format!("{name}-{number}");
                        queue.push((id.clone(), report(name, &id, number, opened.manifest.runs.path())));
                        runs.store(number, Ordering::Relaxed);
                    }
                    other => world.alarms.lock().unwrap().push(format!("{name}: {other:?}")),
                }
            }
        }
        .await;
    }
}

fn report(name: &str, id: &str, number: Number, toplevel: &StorePath) -> SignedReport {
    let report = Report {
        id: id.into(),
        toplevel: toplevel.clone(),
        ending: Ending::Committed { reboot: false, proven: true },
        running: Some(toplevel.clone()),
        generation: None,
        stuck: None,
        log: String::new(),
    };
    let report = HostReport {
        fleet: bosco_model::FleetName::parse("home").unwrap(),
        host: host(name),
        id: id.into(),
        number,
        automatic: false,
        began: 0,
        ended: 0,
        report,
        log: "a log".into(),
    };
    let report = serde_json::to_string(&report).unwrap();
    let signature = identity(name).sign(REPORT_NAMESPACE, HashAlg::Sha512, report.as_bytes());
    SignedReport { signature: signature.unwrap().to_pem(LineEnding::LF).unwrap(), report }
}

/// An operator who publishes one release after the other.
async fn be_operator(world: Arc<World>, fleet: Arc<Fleet>) {
    let mut count = 0_u64;
    while !world.is_over() {
        let Some((_link, mut http)) = world.connect("ada").await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _: Result<(), HttpError> = async {
            while !world.is_over() {
                count += 1;
                let archives: Vec<Vec<u8>> =
                    HOSTS.iter().map(|name| format!("{name} {count}").repeat(200).into_bytes()).collect();
                let next: Next = http.get("/v1/next").await?;
                let of = archives.iter().map(Vec::as_slice).collect::<Vec<_>>();
                let hosts: Vec<(&str, &[&[u8]])> =
                    HOSTS.iter().zip(of.chunks(1)).map(|(name, archives)| (*name, archives)).collect();
                let (release, closures) = simulated::draft(&fleet.file(), next.number, &hosts);
                upload(&mut http, archives.iter().map(Vec::as_slice)).await?;
                let line = simulated::publish(&mut http, &release, &closures).await?;
                let other = world.promised.lock().unwrap().releases.insert(line.number, line.clone());
                if let Some(other) = other {
                    world.alarms.lock().unwrap().push(format!("{other:?} and {line:?} have one number"));
                }
            }
            Ok(())
        }
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_killed_at_any_write_loses_nothing_and_does_nothing_twice() {
    let kills = std::env::var("BOSCO_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let fleet = Fleet::start().await;
    fleet.enroll(&HOSTS).await;
    let (fleet, mut settings) = fleet.ended().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    settings.listen = format!("127.0.0.1:{port}");
    let world = Arc::new(World {
        hub: Hub {
            address: settings.listen.clone(),
            keys: vec![bosco_hub::key(&settings.state).unwrap()],
            identity: Arc::new(identity("nobody")),
        },
        trust: fleet.file().trust_of(&host("h0"), &BTreeSet::new()),
        promised: Mutex::default(),
        over: AtomicBool::new(false),
        alarms: Mutex::default(),
    });
    let fleet = Arc::new(fleet);
    let mut process = Process::start(&settings);
    let operator = tokio::spawn(be_operator(Arc::clone(&world), Arc::clone(&fleet)));
    let mut hosts = Vec::new();
    for name in HOSTS {
        let runs = Arc::new(AtomicU64::new(0));
        hosts.push((tokio::spawn(be_host(Arc::clone(&world), name, Arc::clone(&runs))), runs));
    }
    let mut random = std::process::id();
    for _ in 0..kills {
        // Once it has said yes so many times, and then at any moment of what it does.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (more, rest) = ((random >> 16) as usize % 13, u64::from(random >> 20) % 20);
        let (before, until) = (world.promises(), Instant::now() + ROUND);
        while world.promises() < before + more && Instant::now() < until {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(rest)).await;
        process.kill();
        process = Process::start(&settings);
    }
    // It stays: everybody comes to the newest release.
    let settled = Instant::now() + SETTLE;
    operator_ends(&world, operator).await;
    for (task, runs) in hosts {
        timeout(settled - Instant::now(), task).await.expect("a host does not come to an end").unwrap();
        let newest = world.promised.lock().unwrap().releases.keys().max().copied().unwrap_or_default();
        assert!(runs.load(Ordering::Relaxed) <= newest + 1, "a host has a release that nobody made");
    }
    let (_link, mut http) = until_connected(&world).await.expect("the hub lives");
    let listed: Vec<ReleaseLine> = http.get("/v1/releases").await.unwrap();
    let Promised { releases, reports } = std::mem::take(&mut *world.promised.lock().unwrap());
    println!("{kills} kills, {} releases, {} reports", releases.len(), reports.len());
    assert!(releases.len() as u64 > kills / 10, "too little was done for a test");
    let numbers: BTreeSet<Number> = listed.iter().map(|line| line.number).collect();
    assert_eq!(numbers.len(), listed.len(), "a number twice");
    for (number, line) in &releases {
        assert!(listed.contains(line), "release {number} was published, and is gone");
    }
    assert_eq!(*world.alarms.lock().unwrap(), Vec::<String>::new());
    for name in HOSTS {
        let kept: Vec<ReportLine> = http.get(&format!("/v1/hosts/{name}/reports?last=200")).await.unwrap();
        let ids: BTreeSet<&str> = kept.iter().map(|line| line.report.id.as_str()).collect();
        assert_eq!(ids.len(), kept.len(), "{name}: a report twice");
        let promised: BTreeSet<&str> =
            reports.iter().filter(|(host, _)| host == name).map(|(_, id)| id.as_str()).collect();
        assert!(promised.len() < 200, "more reports than can be looked at: fewer kills, please");
        let lost: Vec<_> = promised.difference(&ids).collect();
        assert!(lost.is_empty(), "{name}: reports that were taken are gone: {lost:?}");
    }
}

async fn until_connected(world: &World) -> Option<(Link, Http)> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if let Some(connected) = world.connect("ada").await {
            return Some(connected);
        }
        sleep(Duration::from_millis(2)).await;
    }
    None
}

/// One more release for everybody, and then no more.
async fn operator_ends(world: &Arc<World>, operator: tokio::task::JoinHandle<()>) {
    let before = world.promised.lock().unwrap().releases.len();
    let until = Instant::now() + SETTLE;
    while world.promised.lock().unwrap().releases.len() < before + 2 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
    world.over.store(true, Ordering::Relaxed);
    timeout(SETTLE, operator).await.expect("the operator does not come to an end").unwrap();
}

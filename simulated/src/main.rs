//! A crowd of agents on one hub, and what they cost it: `bosco-crowd BOSCO AGENTS SECONDS` prints one JSON object.
//!
//! The hub is a process of its own. The agents are tasks in here, each with its own SSH connection, key and long poll, by the
//! code that real agents connect with. What is measured of the hub is what the kernel says of its process.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bosco_release::{Digest, FleetFile, Key};
use bosco_wire::api::{Enroll, Next, Orders};
use bosco_wire::http::Http;
use bosco_wire::link::{Hub, Link, Width};
use hyper::Method;
use russh::keys::ssh_key::LineEnding;
use serde::Serialize;
use simulated::{draft, hello, identity, key, publish, upload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long an agent waits for orders, as the real one does.
const POLL: u64 = 240;
/// How many come at once.
const COMING: usize = 32;

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    agents: usize,
    /// Memory of the hub for each agent, in bytes.
    memory_per_agent: f64,
    /// Share of one processor that the hub takes while nothing happens, for all agents together.
    idle: f64,
    /// From the operator's request until the last agent has the manifest, in seconds; the median of the runs.
    announce: f64,
    /// A poll without news: bytes in both directions, and how often the direction changes.
    poll_bytes: u64,
    poll_turns: u64,
    /// The same of a session of OpenSSH's sftp that looks at a file's time.
    sftp_bytes: u64,
    sftp_turns: u64,
    /// Processor time of the hub for one of each, in seconds.
    poll_cpu: f64,
    sftp_cpu: f64,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Resident memory, in bytes.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// Processor time so far.
    fn cpu(&self) -> Result<Duration> {
        // Nanoseconds, which `stat` does not have.
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            sum += schedstat.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(sum))
    }
}

/// A hub with its folder, in a process of its own.
struct Bench {
    dir: PathBuf,
    process: Process,
    hub: Hub,
    fleet: FleetFile,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Bench {
    async fn start(bosco: &Path) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("bosco-crowd-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let state = dir.join("state");
        let shown = Command::new(bosco).args(["hub", "key", "--state"]).arg(&state).output()?;
        let hub_key = Key::parse(&String::from_utf8(shown.stdout)?)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let text = format!(
            "fleet = \"crowd\"\n[hub]\naddress = \"{address}\"\nkeys = [\"{hub_key}\"]\n[operators.ada]\nkeys = [\"{}\"]\n",
            key("ada")
        );
        let file = dir.join("bosco.toml");
        fs::write(&file, &text)?;
        let child = Command::new(bosco)
            .args(["hub", "--listen", &address, "--state"])
            .arg(&state)
            .arg("--fleet")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()?;
        let hub = Hub { address, keys: vec![hub_key], identity: Arc::new(identity("ada")) };
        let bench = Self { dir, process: Process(child), hub, fleet: FleetFile::parse(&text)? };
        let until = Instant::now() + Duration::from_secs(20);
        while bench.connect("ada").await.is_err() {
            ensure!(Instant::now() < until, "the hub does not start");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(bench)
    }

    async fn connect(&self, who: &str) -> Result<(Link, Http)> {
        let hub = Hub { identity: Arc::new(identity(who)), ..self.hub.clone() };
        let link = hub.connect("bosco", Width::Narrow).await?;
        let http = link.http().await?;
        Ok((link, http))
    }

    /// Publishes a release for all of them; gives when it was asked for.
    async fn release(&self, names: &[String], round: &str) -> Result<Instant> {
        let (_link, mut ada) = self.connect("ada").await?;
        let next: Next = ada.get("/v1/next").await?;
        let archive = format!("a system, {round}").into_bytes();
        let archives = [archive.as_slice()];
        let hosts: Vec<(&str, &[&[u8]])> =
            names.iter().map(|name| (name.as_str(), archives.as_slice())).collect();
        let (release, closures) = draft(&self.fleet, next.number, &hosts);
        upload(&mut ada, [archive.as_slice()].into_iter()).await?;
        let asked = Instant::now();
        publish(&mut ada, &release, &closures).await?;
        Ok(asked)
    }
}

/// One agent, until it is over. What it is given, and when, goes to `heard`.
async fn agent(
    hub: Hub,
    coming: Arc<Semaphore>,
    ready: mpsc::Sender<()>,
    heard: mpsc::Sender<Instant>,
    mut over: watch::Receiver<bool>,
) -> Result<()> {
    let turn = coming.acquire().await?;
    let link = hub.connect("bosco", Width::Narrow).await?;
    let mut http = link.http().await?;
    hello(&mut http, None).await;
    drop(turn);
    let mut leaf: Option<Digest> = None;
    let _ = ready.send(()).await;
    loop {
        let path = leaf.map(|leaf| format!("leaf={leaf}&")).unwrap_or_default();
        let path = format!("/v1/host/orders?{path}wait={POLL}");
        let orders = tokio::select! {
            orders = http.wait::<Orders>(&path, Duration::from_secs(POLL)) => orders?,
            _ = over.changed() => return Ok(()),
        };
        if let Some(sealed) = orders.and_then(|orders| orders.sealed) {
            heard.send(Instant::now()).await?;
            leaf = Some(bosco_release::tree::leaf(sealed.manifest.as_bytes()));
        }
    }
}

/// Bytes, and changes of direction, through a relay to the hub.
#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    turns: AtomicU64,
    last: AtomicU64,
}

impl Counted {
    fn count(&self, bytes: usize, direction: u64) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.last.swap(direction, Ordering::Relaxed) != direction {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> (u64, u64) {
        self.last.store(0, Ordering::Relaxed);
        (self.bytes.swap(0, Ordering::Relaxed), self.turns.swap(0, Ordering::Relaxed))
    }
}

/// A relay to an address; gives its own.
async fn relay(to: String, counted: Arc<Counted>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let Ok(there) = TcpStream::connect(&to).await else { return };
            let (from_here, to_here) = here.into_split();
            let (from_there, to_there) = there.into_split();
            tokio::spawn(pipe(from_here, to_there, Arc::clone(&counted), 1));
            tokio::spawn(pipe(from_there, to_here, Arc::clone(&counted), 2));
        }
    });
    Ok(address)
}

async fn pipe(mut from: OwnedReadHalf, mut into: OwnedWriteHalf, counted: Arc<Counted>, direction: u64) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        counted.count(read, direction);
        if into.write_all(piece.get(..read).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// What a poll without news costs, and a session of `sftp` that looks at a file's time, as bento's hosts do.
async fn polls(bench: &Bench, measured: &mut Measured) -> Result<()> {
    const TIMES: u32 = 20;
    let counted = Arc::new(Counted::default());
    let address = relay(bench.hub.address.clone(), Arc::clone(&counted)).await?;
    let hub = Hub { address: address.clone(), identity: Arc::new(identity("host0")), ..bench.hub.clone() };
    let link = hub.connect("bosco", Width::Narrow).await?;
    let mut http = link.http().await?;
    hello(&mut http, None).await;
    let orders: Option<Orders> = http.wait("/v1/host/orders?wait=0", Duration::ZERO).await?;
    let sealed = orders.and_then(|orders| orders.sealed).context("there is no release")?;
    let leaf = bosco_release::tree::leaf(sealed.manifest.as_bytes());
    let path = format!("/v1/host/orders?leaf={leaf}&wait=0");
    let (mut bytes, mut turns) = (Vec::new(), Vec::new());
    let before = bench.process.cpu()?;
    for _ in 0..TIMES {
        sleep(Duration::from_millis(20)).await;
        counted.take();
        ensure!(http.wait::<Orders>(&path, Duration::ZERO).await?.is_none(), "there was news");
        let (some, changes) = counted.take();
        bytes.push(some);
        turns.push(changes);
    }
    measured.poll_cpu = (bench.process.cpu()? - before).as_secs_f64() / f64::from(TIMES);
    (measured.poll_bytes, measured.poll_turns) = (middle(bytes), middle(turns));
    link.close().await;
    let key = bench.dir.join("host0");
    fs::write(&key, identity("host0").to_openssh(LineEnding::LF)?.as_bytes())?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let (name, port) = address.split_once(':').context("no port")?;
    let known = bench.dir.join("known_hosts");
    let hub_key = bench.hub.keys.first().context("no key")?;
    fs::write(&known, format!("[{name}]:{port} {hub_key}\n"))?;
    let (mut bytes, mut turns) = (Vec::new(), Vec::new());
    let before = bench.process.cpu()?;
    for _ in 0..TIMES {
        sleep(Duration::from_millis(20)).await;
        counted.take();
        let mut sftp = tokio::process::Command::new("sftp");
        sftp.args(["-q", "-b", "-", "-F", "none", "-P", port, "-o", "IdentitiesOnly=yes", "-i"])
            .arg(&key)
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg(format!("bosco@{name}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = sftp.spawn()?;
        child.stdin.take().context("no input")?.write_all(b"ls -l /\n").await?;
        ensure!(child.wait().await?.success(), "sftp failed");
        let (some, changes) = counted.take();
        bytes.push(some);
        turns.push(changes);
    }
    measured.sftp_cpu = (bench.process.cpu()? - before).as_secs_f64() / f64::from(TIMES);
    (measured.sftp_bytes, measured.sftp_turns) = (middle(bytes), middle(turns));
    Ok(())
}

fn middle(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// How many releases are announced.
const ROUNDS: usize = 5;
/// How long everybody may take to come, or to hear.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bosco, agents, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: bosco-crowd BOSCO AGENTS SECONDS");
    };
    let (agents, seconds): (usize, u64) = (agents.parse()?, seconds.parse()?);
    let bench = Bench::start(Path::new(bosco)).await?;
    let names: Vec<String> = (0..agents).map(|number| format!("host{number}")).collect();
    eprintln!("{agents} hosts are let in");
    let (link, mut ada) = bench.connect("ada").await?;
    for name in &names {
        ada.send(Method::PUT, &format!("/v1/hosts/{name}"), &Enroll { keys: vec![key(name)] }).await?;
    }
    bench.release(&names, "the first").await?;
    let mut measured = Measured { agents, ..Measured::default() };
    polls(&bench, &mut measured).await?;
    let before = bench.process.memory()?;

    eprintln!("they connect");
    let coming = Arc::new(Semaphore::new(COMING));
    let (ready, mut are_ready) = mpsc::channel(agents);
    let (heard, mut have_heard) = mpsc::channel(agents);
    let (end, over) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for name in &names {
        let hub = Hub { identity: Arc::new(identity(name)), ..bench.hub.clone() };
        tasks.spawn(agent(hub, Arc::clone(&coming), ready.clone(), heard.clone(), over.clone()));
    }
    let wait = async {
        for _ in 0..agents {
            are_ready.recv().await.context("an agent has failed")?;
        }
        for _ in 0..agents {
            have_heard.recv().await.context("an agent has failed")?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, wait).await.context("not all agents come")??;
    // What only the connecting took is given back.
    sleep(Duration::from_secs(5)).await;
    let after = bench.process.memory()?;
    measured.memory_per_agent = after.saturating_sub(before) as f64 / agents as f64;

    eprintln!("nothing happens for {seconds} s");
    let before = bench.process.cpu()?;
    sleep(Duration::from_secs(seconds)).await;
    measured.idle = (bench.process.cpu()? - before).as_secs_f64() / seconds as f64;

    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let asked = bench.release(&names, &round.to_string()).await?;
        let mut last = asked;
        for _ in 0..agents {
            let heard = timeout(PATIENCE, have_heard.recv()).await.context("not all agents hear")?;
            last = last.max(heard.context("an agent has failed")?);
        }
        took.push(last - asked);
        eprintln!("a release was heard by all after {:.2} s", (last - asked).as_secs_f64());
    }
    took.sort();
    measured.announce = took.get(ROUNDS / 2).map_or(f64::NAN, Duration::as_secs_f64);
    end.send(true)?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    link.close().await;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

//! A hub that lies, and a machine of its own for the agent that hears it: a store that is nobody else's, and a name that says
//! that it is NixOS. Both are gone with the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as loudly as tests"
)]

pub(crate) mod liar;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bosco_agent::{AgentConfig, Patience};
use bosco_host::places::Places;
use bosco_model::StorePath;
use bosco_release::{Contents, Digest, FleetFile, Number, Sealed, tree};
use liar::Liar;
use russh::keys::ssh_key::LineEnding;
use simulated::{host, identity, key};
use testbed::Operator;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Says that this process is where the test is to be run.
const INSIDE: &str = "BOSCO_TEST_INSIDE";
/// How long the agent waits for what a hub does: seconds are minutes here.
pub(crate) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(3),
    greeting: Duration::from_secs(3),
    answer: Duration::from_secs(3),
    news: Duration::from_secs(3),
    pace: Duration::from_secs(3),
};
/// How long anything may take to be seen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Runs a test on a machine of its own: in a process with a private store, that takes the machine for NixOS.
pub(crate) fn on_a_machine(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(test);
    }
    let operator = Operator::alone().expect("a store; the tests need root");
    let release = operator.dir().join("os-release");
    fs::write(&release, "ID=nixos\n").unwrap();
    let script = "mount --bind \"$1\" /etc/os-release && shift && exec \"$@\"";
    let output = operator
        .command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(release)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, operator.dir())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// An archive (NAR) of a file with these contents.
pub(crate) fn nar(contents: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let words: [&[u8]; 7] = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")"];
    for word in words {
        archive.extend_from_slice(&(word.len() as u64).to_le_bytes());
        archive.extend_from_slice(word);
        archive.resize(archive.len().next_multiple_of(8), 0);
    }
    archive
}

/// The machine that an agent runs on.
pub(crate) struct Machine {
    dir: PathBuf,
    config: AgentConfig,
    said: Arc<Mutex<Vec<String>>>,
    /// How many have come to the machine's sshd.
    pub(crate) sshd: Arc<AtomicUsize>,
    agent: Option<JoinHandle<()>>,
}

impl Machine {
    /// A machine that has joined this hub, as the one with that key.
    pub(crate) async fn new(hub: &Liar, hub_key: &str) -> Self {
        let dir = PathBuf::from(std::env::var_os(INSIDE).unwrap()).join("machine");
        let state = dir.join("state");
        fs::create_dir_all(&state).unwrap();
        let identity_file = dir.join("key");
        fs::write(&identity_file, identity("web").to_openssh(LineEnding::LF).unwrap()).unwrap();
        fs::set_permissions(&identity_file, fs::Permissions::from_mode(0o600)).unwrap();
        let helper = dir.join("helper");
        fs::write(&helper, format!("#!/bin/sh\necho \"$@\" >> {}\nexit 1\n", dir.join("asked").display()))
            .unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let trust = fleet(&hub.address, hub_key).trust_of(&host("web"), &Default::default());
        fs::write(state.join("trust.json"), serde_json::to_string(&trust).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let say = Arc::clone(&said);
        let config = AgentConfig {
            places: Places::below(dir.join("root")),
            state,
            identity: identity_file,
            host: host("web"),
            helper,
            sshd: listener.local_addr().unwrap().to_string(),
            page: None,
            version: "test".into(),
            say: Arc::new(move |line| {
                println!("agent: {line}");
                say.lock().unwrap().push(line.to_owned());
            }),
            patience: PATIENCE,
        };
        let sshd = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sshd);
        tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                all.push(stream);
            }
        });
        Self { dir, config, said, sshd, agent: None }
    }

    /// Starts its agent, once more where it is the second time.
    pub(crate) async fn start(&mut self) {
        if let Some(before) = self.agent.take() {
            before.abort();
            let _ = before.await;
        }
        let config = self.config.clone();
        self.agent = Some(tokio::spawn(async move {
            let ended = bosco_agent::run(config).await;
            println!("the agent ended: {ended:?}");
        }));
    }

    /// Whether the agent goes on, whatever it was given.
    pub(crate) fn runs(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| !agent.is_finished())
    }

    /// What the agent has said.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Waits until the agent has said something.
    pub(crate) async fn says(&self, words: &str) {
        until(&format!("the agent says `{words}`"), || self.said().contains(words)).await;
    }

    /// Whether the helper was asked to activate something.
    pub(crate) fn was_asked_to_activate(&self) -> bool {
        fs::read_to_string(self.dir.join("asked")).is_ok_and(|asked| asked.contains("activate"))
    }

    /// The secrets that are kept, encrypted: the names of their files.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let folder = fs::read_dir(self.dir.join("root/nix/var/bosco/secrets"));
        folder.into_iter().flatten().map(|one| one.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What is kept of what the hub said.
    pub(crate) fn pull(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.config.state.join("pull.json")).unwrap()).unwrap()
    }
}

/// Whether a path is in the store, as one that counts.
pub(crate) fn is_valid(path: &StorePath) -> bool {
    let checked = Command::new("nix-store").arg("--check-validity").arg(path.as_str()).output();
    checked.expect("nix-store").status.success()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What this process has in memory at the most, in bytes.
pub(crate) fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A fleet with such a hub.
pub(crate) fn fleet(address: &str, hub_key: &str) -> FleetFile {
    let text = format!(
        "fleet = \"home\"\n[hub]\naddress = \"{address}\"\nkeys = [\"{hub_key}\"]\n[operators.ada]\nkeys = [\"{}\"]\n",
        key("ada")
    );
    FleetFile::parse(&text).unwrap()
}

/// A release of `web`, and of `bob`, signed by somebody whom they trust.
pub(crate) struct Signed {
    pub(crate) web: Sealed,
    pub(crate) bob: Sealed,
    pub(crate) contents: Contents,
    pub(crate) leaf: Digest,
}

pub(crate) fn signed(hub: &Liar, number: Number, archives: &[&[u8]]) -> Signed {
    signed_with(hub, number, archives, None)
}

/// The same, where `web` has these secrets.
pub(crate) fn signed_with(hub: &Liar, number: Number, archives: &[&[u8]], secrets: Option<Digest>) -> Signed {
    let file = fleet(&hub.address, key("hub").as_str());
    let (release, closures) = simulated::draft(&file, number, &[("web", archives), ("bob", &[b"bob's"])]);
    let release = simulated::changed(&release, |manifest| {
        manifest.secrets = secrets.filter(|_| manifest.host == host("web"));
    });
    let mut all: Vec<Sealed> = release.seal().collect();
    let at = all.iter().position(|sealed| sealed.manifest.contains("\"host\":\"web\"")).unwrap();
    let web = all.remove(at);
    let contents = simulated::contents("web", archives);
    assert!(closures.contains_key(&contents.digest()));
    Signed { leaf: tree::leaf(web.manifest.as_bytes()), web, bob: all.remove(0), contents }
}

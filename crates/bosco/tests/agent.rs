//! Real machines whose agents fetch what a real hub has: a release reaches them, and what does not hold is taken back.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use bosco_model::{FleetName, HostName, Profiles, StorePath};
use bosco_release::{
    Contents, Digest, Draft, Key, Manifest, PathContents, Policy, RELEASE_NAMESPACE, Runs, Signer,
    SignerKind, Statement, Trust,
};
use bosco_wire::api::{Next, ReleaseLine};
use bosco_wire::http::Http;
use bosco_wire::pack::Head;
use bytes::Bytes;
use common::pull::{HUB, OPERATOR, PORT, Pull};
use serde_json::{Value, json};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use testbed::{Host, Lab, LabSpec};
use tokio::process::{Child, Command};

const HOST: &str = "laptop";

fn greeting(host: &Host) -> String {
    host.ssh_ok("cat /etc/greeting 2>/dev/null || echo none").unwrap().trim().to_owned()
}

fn log(host: &Host) -> String {
    host.ssh_ok(
        "journalctl --no-pager --output short-precise -u bosco-agent -u bosco-activation -u nix-daemon | tail -n 150",
    )
    .unwrap()
}

/// Waits until something holds, and fails with the agent's log where it does not.
#[track_caller]
fn until(host: &Host, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not within a minute\n{}", log(host));
        thread::sleep(Duration::from_millis(300));
    }
}

/// The operator at the hub.
struct Publisher<'a> {
    pull: &'a Pull<'a>,
    hub_key: Key,
    identity: PrivateKey,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Publisher<'a> {
    fn new(pull: &'a Pull<'a>, hub_key: &str) -> Self {
        let identity = PrivateKey::read_openssh_file(pull.lab.operator().ssh_key()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { pull, hub_key: Key::parse(hub_key).unwrap(), identity, runtime }
    }

    /// The hub's HTTP, by the operator's own ssh.
    async fn http(&self) -> (Child, Http) {
        let operator = self.pull.lab.operator();
        let mut ssh = Command::from(operator.command("ssh"));
        ssh.arg("-F").arg(operator.ssh_config());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", self.pull.known_hosts().display()));
        ssh.args(["-p", &PORT.to_string(), "-l", OPERATOR, "-W", "bosco:80", HUB]).kill_on_drop(true);
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stream = tokio::io::join(ssh.stdout.take().unwrap(), ssh.stdin.take().unwrap());
        let http = Http::over(stream).await.unwrap();
        (ssh, http)
    }

    /// What the host's configuration makes now, built.
    fn toplevel(&self) -> StorePath {
        let reference = format!(
            "{}#nixosConfigurations.{HOST}.config.system.build.toplevel",
            self.pull.fleet.path().display()
        );
        let built =
            self.pull.lab.operator().nix(["build", "--no-link", "--print-out-paths", &reference]).unwrap();
        StorePath::parse(built.trim()).unwrap()
    }

    /// What is in a closure, and its archives.
    fn contents(&self, toplevel: &StorePath) -> (Contents, BTreeMap<Digest, Vec<u8>>) {
        let operator = self.pull.lab.operator();
        let said = operator.nix(["path-info", "--json", "--recursive", toplevel.as_str()]).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let mut archives = BTreeMap::new();
        let paths = said.as_object().unwrap().iter().map(|(path, info)| {
            let dumped = operator.command("nix").args(["store", "dump-path", path]).output().unwrap();
            assert!(dumped.status.success() && !dumped.stdout.is_empty());
            let hash = Digest::of(&[&dumped.stdout]);
            let size = dumped.stdout.len() as u64;
            archives.insert(hash, dumped.stdout);
            let references = info["references"].as_array().unwrap().iter();
            let references =
                references.map(|path| StorePath::parse(path.as_str().unwrap()).unwrap()).collect();
            let path = StorePath::parse(path).unwrap();
            PathContents { path, hash, size, references, signatures: Vec::new(), address: String::new() }
        });
        let contents = Contents::new(paths.collect()).unwrap();
        (contents, archives)
    }

    /// Publishes what the host's configuration makes now.
    fn release(&self) -> (ReleaseLine, StorePath) {
        let toplevel = self.toplevel();
        let (contents, archives) = self.contents(&toplevel);
        let line = self.runtime.block_on(async {
            let (_ssh, mut http) = self.http().await;
            let next: Next = http.get("/v1/next").await.unwrap();
            let digests: Vec<Digest> = archives.keys().copied().collect();
            let missing: Vec<Digest> =
                http.post("/v1/paths/missing", &digests, Duration::ZERO).await.unwrap();
            let (sender, sent) = http.upload("/v1/paths");
            let feed = async move {
                for hash in missing {
                    let archive = &archives[&hash];
                    let packed = zstd::encode_all(archive.as_slice(), 1).unwrap();
                    let head = Head { hash, size: archive.len() as u64, stored: packed.len() as u64 };
                    sender.send(Bytes::copy_from_slice(&head.to_bytes())).await.unwrap();
                    sender.send(packed.into()).await.unwrap();
                }
            };
            let (came, ()) = tokio::join!(sent, feed);
            came.unwrap();
            let (closure, fleet) = (contents.digest(), FleetName::try_from("home".to_owned()).unwrap());
            let host = HostName::parse(HOST).unwrap();
            let key = Key::of(self.identity.public_key()).unwrap();
            let manifest = Manifest {
                fleet: fleet.clone(),
                keys: next.keys[&host].clone(),
                number: next.number,
                runs: Runs::System { toplevel: toplevel.clone(), profiles: Profiles::default(), closure },
                secrets: None,
                tags: BTreeSet::new(),
                policy: Policy::default(),
                trust: Trust {
                    version: 1,
                    fleet: fleet.clone(),
                    signers: vec![Signer { name: OPERATOR.into(), key, kind: SignerKind::Operator }],
                    hub: format!("{HUB}:{PORT}"),
                    hub_keys: vec![self.hub_key.clone()],
                },
                lifts: next.holds.get(&host).map_or(0, |hold| hold.number),
                host,
            };
            let statement = Statement {
                fleet,
                number: next.number,
                root: Digest::of(&[]),
                hosts: 0,
                commit: None,
                made: 1,
                expires: 4_000_000_000,
                hub_builds: false,
            };
            let draft = Draft::new(statement, vec![manifest]).unwrap();
            let signature =
                self.identity.sign(RELEASE_NAMESPACE, HashAlg::Sha512, draft.statement.as_bytes());
            let release = draft.signed(signature.unwrap().to_pem(LineEnding::LF).unwrap());
            let kept: Digest = http.post("/v1/closures", &contents, Duration::ZERO).await.unwrap();
            assert_eq!(kept, closure);
            http.post("/v1/releases", &release, Duration::from_secs(60)).await.unwrap()
        });
        (line, toplevel)
    }

    /// How the hub says that the host stands.
    fn state(&self) -> String {
        let (_, status) = self.pull.ask("GET", "/v1/status", None);
        status["hosts"][0]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The newest report of the host.
    fn report(&self) -> Value {
        self.pull.ask("GET", &format!("/v1/hosts/{HOST}/reports?last=1"), None).1[0]["report"].clone()
    }
}

/// Lets the host in, as its operators do: by the code that it shows.
fn join(pull: &Pull<'_>, host: &Host) {
    let shown = thread::scope(|scope| {
        let joining = scope.spawn(|| {
            host.ssh_ok(&format!("bosco agent join --host {HOST} --hub {HUB}:{PORT} 2>/dev/null")).unwrap()
        });
        let began = Instant::now();
        let code = loop {
            let (_, joins) = pull.ask("GET", "/v1/joins", None);
            if let Some(code) = joins[0]["code"].as_str() {
                break code.to_owned();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nobody asks to be let in: {joins}");
            thread::sleep(Duration::from_millis(200));
        };
        assert_eq!(pull.ask("POST", "/v1/joins/approve", Some(&json!({ "code": code }))).0, 200);
        assert_eq!(joining.join().unwrap().trim(), code, "both sides have the same code");
        code
    });
    assert!(!shown.is_empty());
}

#[test]
fn a_release_reaches_a_host_and_what_does_not_hold_is_taken_back() {
    let lab = Lab::up(&LabSpec::named([HUB, HOST])).unwrap();
    let pull = Pull::new(&lab);
    let key = pull.start_hub();
    let host = lab.host(HOST).unwrap();
    let agent = |more: &str| pull.own(HOST, &format!("services.bosco.agent.enable = true; {more}"));
    pull.bosco(&["apply", "--on", HOST]).exits(0);
    join(&pull, host);
    let publisher = Publisher::new(&pull, &key);
    until(host, "the agent comes", || publisher.state() == "new");

    agent("environment.etc.greeting.text = \"one\";");
    let (line, _) = publisher.release();
    until(host, "the release runs", || publisher.state() == "up-to-date");
    assert_eq!(greeting(host), "one");
    until(host, "a report is there", || publisher.report()["report"]["ending"] == "committed");
    assert_eq!(publisher.report()["number"], line.number);

    // What cuts the host off from its hub does not stay.
    agent("environment.etc.greeting.text = \"two\"; networking.hosts = lib.mkForce { };");
    let before = host.ssh_ok("readlink /run/current-system").unwrap();
    publisher.release();
    until(host, "an attempt ends", || publisher.report()["number"].as_u64() > Some(line.number));
    // The first time it may be the hub that was away; the second time it is not.
    let first = publisher.report();
    assert_eq!(first["report"]["ending"], "inconclusive", "{}", log(host));
    until(host, "it waits for the next try", || publisher.state() == "failing");
    assert_eq!(publisher.pull.ask("POST", &format!("/v1/hosts/{HOST}/trigger"), Some(&json!({}))).0, 204);
    until(host, "another attempt ends", || publisher.report()["id"] != first["id"]);
    assert_eq!(publisher.report()["report"]["ending"], "reverted", "{}", log(host));
    assert_eq!(host.ssh_ok("readlink /run/current-system").unwrap(), before);
    assert_eq!(greeting(host), "one");
    until(host, "it is not tried again", || publisher.state() == "reverted");
    let page = host.ssh_ok("curl --silent localhost:9999").unwrap();
    assert!(page.contains("it has failed here"), "{page}");
    let refused = host.ssh_ok(
        "curl --silent --output /dev/null --write-out '%{http_code}' -d token=x localhost:9999/update",
    );
    assert_eq!(refused.unwrap().trim(), "403", "nobody changes anything but from the page");
}

//! A release goes to a hub and is told of by it: the real hub, over the operator's real ssh, on loopback. The hosts are
//! played: they log in by their keys and say what agents say.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bosco_model::{HostName, Observed, StorePath};
use bosco_release::{Key, SignedReport};
use bosco_secrets::Recipient;
use bosco_wire::api::{Enroll, Hello, Orders, Standing, Welcome};
use bosco_wire::http::Http;
use bosco_wire::link::{self, Link, Width};
use common::Said;
use hyper::Method;
use serde_json::{Value, json};
use testbed::Operator;
use testbed::fleet::{Fleet, sample};

/// A hub that runs, and an operator who may do everything.
struct Scene<'a> {
    operator: &'a Operator,
    fleet: Fleet<'a>,
    hub: Child,
    hub_key: Key,
    address: String,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let _ = self.hub.kill();
        let _ = self.hub.wait();
    }
}

/// A new key, and where it is.
fn new_key(dir: &Path, name: &str) -> (Key, PathBuf) {
    let path = dir.join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path);
    assert!(keygen.status().unwrap().success());
    let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (Key::parse(&text).unwrap(), path)
}

impl<'a> Scene<'a> {
    fn set(operator: &'a Operator) -> Self {
        let fleet = sample(operator, "plain").unwrap();
        let (ada, identity) = new_key(operator.dir(), "ada");
        new_key(operator.dir(), "eve");
        let (bob, _) = new_key(operator.dir(), "bob");
        let state = operator.dir().join("hub");
        let key = operator
            .command(env!("CARGO_BIN_EXE_bosco"))
            .args(["hub", "key", "--state"])
            .arg(&state)
            .output()
            .unwrap();
        let hub_key = Key::parse(String::from_utf8_lossy(&key.stdout).trim()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        fleet
            .write(
                "bosco.toml",
                &format!(
                    "fleet = \"home\"\n[hub]\naddress = \"{address}\"\nkeys = [\"{hub_key}\"]\n\
                     [operators.ada]\nkeys = [\"{ada}\"]\n\
                     [operators.bob]\nkeys = [\"{bob}\"]\nhosts = \"host2\"\nsigns = false\n"
                ),
            )
            .unwrap();
        fleet.commit().unwrap();
        ssh_config(operator, &identity);
        let mut hub = operator
            .command(env!("CARGO_BIN_EXE_bosco"))
            .args(["hub", "--listen", &address, "--state"])
            .arg(&state)
            .arg("--fleet")
            .arg(fleet.path().join("bosco.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(hub.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("listens"), "{line}");
        // What it says more is nobody's business here, but must not block it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { operator, fleet, hub, hub_key, address }
    }

    fn bosco(&self, args: &[&str]) -> Said {
        let mut command = common::command(self.operator, &self.fleet, args);
        command.env("SSH_CONFIG_FILE", self.operator.dir().join("ssh_config"));
        Said::of(&command.output().unwrap())
    }

    fn release(&self, args: &[&str]) -> Said {
        let key = self.operator.dir().join("ada");
        self.bosco(&[&["release", "--sign-with", key.to_str().unwrap()], args].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        let said = self.bosco(&[args, &["--json"]].concat());
        assert!(matches!(said.code, 0 | 5), "{}{}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    /// A connection by a key, as an agent makes it.
    async fn link(&self, identity: &Path) -> (Link, Http) {
        let hub = link::Hub {
            address: self.address.clone(),
            keys: vec![self.hub_key.clone()],
            identity: Arc::new(ssh_key::PrivateKey::read_openssh_file(identity).unwrap()),
        };
        let link = hub.connect("host", Width::Narrow).await.unwrap();
        let http = link.http().await.unwrap();
        (link, http)
    }
}

/// The operator's ssh has this key and no other.
fn ssh_config(operator: &Operator, identity: &Path) {
    let config = format!(
        "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  HostName 127.0.0.1\n",
        identity.display()
    );
    std::fs::write(operator.dir().join("ssh_config"), config).unwrap();
}

/// A host that runs this, and was brought to it.
fn standing(toplevel: &str) -> Standing {
    let path = StorePath::parse(toplevel).unwrap();
    let observed = Observed {
        nixos: true,
        nix: true,
        current: Some(path.clone()),
        profile: Some(path),
        ..Observed::default()
    };
    Standing { observed, highest: 1, version: "0.1.0".into(), ..Standing::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_reaches_a_host_and_its_status_and_log_come_back() {
    let operator = Operator::alone().unwrap();
    let scene = Scene::set(&operator);
    scene.bosco(&["releases"]).exits(0).says("there is no release yet");
    scene.release(&["--dry-run"]).exits(0).says("release 1 would change 2 of 2 hosts");
    // Nix has written the flake's lock file.
    scene.release(&["--dry-run"]).exits(0).says("not committed");
    scene.fleet.commit().unwrap();
    scene
        .release(&[])
        .exits(0)
        .does_not_say("not committed")
        .does_not_say("does not know")
        .says("release 1 by ada, commit ")
        .says("operators build and sign");
    scene.release(&[]).exits(0).says("nothing has changed since release 1");
    assert_eq!(scene.json(&["releases"])[0]["number"], 1);

    // A host is let in, gets its manifest, and says that it runs it.
    let (key, identity) = new_key(operator.dir(), "host1");
    let (_ada, mut http) = scene.link(&operator.dir().join("ada")).await;
    let (key_text, fingerprint) = (key.to_string(), key.fingerprint());
    http.send(Method::PUT, "/v1/hosts/host1", &Enroll { keys: vec![key] }).await.unwrap();
    scene.bosco(&["trigger", "host1"]).exits(4).says("not connected");
    // It was not from here that it was let in: what the hub says of its key is not signed before somebody says the same.
    scene.release(&[]).exits(0).says("nothing has changed since release 1");
    scene.bosco(&["secrets", "accept", "host1", &fingerprint]).exits(0);
    scene.release(&[]).exits(0).says("host1: its keys");
    assert_eq!(scene.json(&["status", "--on", "host1"])[0]["state"], "new");
    let (host, mut http) = scene.link(&identity).await;
    let old = format!("/nix/store/{}-old", "0".repeat(32));
    let hello = Hello { ratchet: None, standing: standing(&old) };
    let _: Welcome = http.post("/v1/host/hello", &hello, Duration::ZERO).await.unwrap();
    let orders: Option<Orders> = http.wait("/v1/host/orders?wait=5", Duration::from_secs(5)).await.unwrap();
    let sealed = orders.unwrap().sealed.unwrap();
    let trust = bosco_release::FleetFile::parse(
        &std::fs::read_to_string(scene.fleet.path().join("bosco.toml")).unwrap(),
    )
    .unwrap()
    .trust_of(&HostName::parse("host1").unwrap(), &Default::default());
    let opened = sealed.open(&trust).unwrap();
    assert_eq!(opened.manifest.number, 2);
    let toplevel = opened.manifest.runs.path().as_str();
    // From now on it waits for orders, as agents do.
    let (waiting, mut orders) = scene.link(&identity).await;
    let path = format!("/v1/host/orders?leaf={}&wait=60", opened.leaf);
    let agent = tokio::spawn(async move {
        while orders.wait::<Orders>(&path, Duration::from_secs(60)).await.is_ok() {}
        drop(waiting);
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while scene.json(&["status", "--on", "host1"])[0]["connected"] != json!(true) {
        assert!(std::time::Instant::now() < deadline, "the hub does not see that the host waits");
    }

    let status = scene.json(&["status", "--on", "host1"]);
    assert_eq!((&status[0]["state"], &status[0]["connected"]), (&json!("pending"), &json!(true)), "{status}");
    http.send(Method::POST, "/v1/host/standing", &standing(toplevel)).await.unwrap();
    let said = scene.bosco(&["status"]);
    assert_eq!(said.code, 5, "host2 has no agent, and nobody answers for it:\n{}{}", said.out, said.err);
    said.says("LAST SEEN").says("up to date").says("host2");

    // What operators say of hosts.
    scene.bosco(&["trigger", "host*"]).exits(0).says("host1: tries now").does_not_say("host2");
    http.send(Method::POST, "/v1/host/standing", &standing(&old)).await.unwrap();
    scene.bosco(&["hold", "host1", "--why", "a demo"]).exits(0).says("host1: stays as it is");
    scene.bosco(&["status", "--on", "host1"]).exits(0).says("held").says("ada: a demo");
    scene.bosco(&["resume", "host1"]).exits(0).says("host1: goes on");
    scene.bosco(&["hold", "host7"]).exits(2).says("the hub knows no host `host7`").says("host1");

    // What came of it.
    scene.bosco(&["log", "host1"]).exits(0).says("host1 has not reported anything yet");
    http.send(Method::POST, "/v1/host/reports", &report(&identity, toplevel)).await.unwrap();
    scene.bosco(&["log", "host1"]).exits(0).says("host1, release 2, now: committed").says("stopping nginx");
    assert_eq!(scene.json(&["log", "host1"])[0]["report"]["id"], "a1");

    // What changes is told by name.
    scene.fleet.write("host1.nix", "{ environment.etc.motd.text = \"new\"; }").unwrap();
    // Who is not granted all that changes hears it before the hub has got anything of it.
    ssh_config(&operator, &operator.dir().join("bob"));
    let objects = || std::fs::read_dir(operator.dir().join("hub/objects")).unwrap().count();
    let before = objects();
    scene.release(&[]).exits(4).says("host1 is not yours to change");
    assert_eq!(objects(), before, "something was sent");
    ssh_config(&operator, &operator.dir().join("ada"));
    scene.release(&[]).exits(0).says("not committed").says("release 3 by ada: 1 of 2").says("host1: system");
    scene.bosco(&["diff", "2"]).exits(0).says("host1: system").does_not_say("host2");
    scene.bosco(&["diff", "1", "2"]).exits(0).says("host1: its keys");
    scene.bosco(&["diff", "9"]).exits(2).says("there is no release");

    // A laptop that sleeps is no error.
    agent.abort();
    host.close().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while scene.json(&["status", "--on", "host1"])[0]["connected"] != json!(false) {
        assert!(std::time::Instant::now() < deadline, "the hub does not see that the host is gone");
    }
    scene.bosco(&["status", "host1"]).exits(0).says("offline");

    scene.bosco(&["approve"]).exits(0).says("nobody asks");
    // Of a host that leaves it is said what it could read.
    let recipient = Recipient::parse(&key_text).unwrap().age_form();
    let web = include_str!("sops/web.yaml");
    let of_web = "age1g43mccq87434n56ldxdr256fhu70en2klze27s4876n0hwhq7scq6tcsvh";
    scene.fleet.write("web.yaml", &web.replace(of_web, recipient.as_str())).unwrap();
    scene.bosco(&["secrets", "list", "--host", "host1"]).exits(0).says("db/password");
    scene.bosco(&["forget", "host1"]).exits(0).says("rekey").says("web.yaml: token, db/password");
}

/// A report that the host has signed.
fn report(identity: &Path, toplevel: &str) -> SignedReport {
    let report = json!({
        "fleet": "home",
        "host": "host1",
        "id": "a1",
        "number": 2,
        "began": 1000,
        "ended": 1030,
        "report": {
            "id": "a1",
            "toplevel": toplevel,
            "ending": "committed",
            "reboot": false,
            "proven": true,
            "running": toplevel,
            "generation": 2,
            "stuck": null,
            "log": "/nix/var/bosco/a1.log",
        },
        "log": "stopping nginx\n",
    })
    .to_string();
    let key = ssh_key::PrivateKey::read_openssh_file(identity).unwrap();
    let signature = key.sign("bosco-report", ssh_key::HashAlg::Sha512, report.as_bytes()).unwrap();
    SignedReport { report, signature: signature.to_pem(ssh_key::LineEnding::LF).unwrap() }
}

#[test]
fn what_is_wrong_with_the_way_to_the_hub_is_told_with_what_to_do() {
    let operator = Operator::alone().unwrap();
    let mut scene = Scene::set(&operator);
    let file = scene.fleet.path().join("bosco.toml");
    let right = std::fs::read_to_string(&file).unwrap();

    // Eve's key is nobody's.
    ssh_config(&operator, &operator.dir().join("eve"));
    scene.bosco(&["releases"]).exits(4).says("does not know your key");
    ssh_config(&operator, &operator.dir().join("ada"));
    let eve = operator.dir().join("eve");
    scene.bosco(&["release", "--sign-with", eve.to_str().unwrap()]).exits(4).says("may not sign");

    // Somebody else answers at the hub's address.
    let other = std::fs::read_to_string(eve.with_extension("pub")).unwrap();
    std::fs::write(&file, right.replace(scene.hub_key.as_str(), other.trim())).unwrap();
    scene.bosco(&["releases"]).exits(4).says("is not the hub");

    // A mistake stops every command.
    std::fs::write(&file, right.replace("address", "adress")).unwrap();
    scene.bosco(&["hosts"]).exits(2).says("bosco.toml: line 3: unknown field `adress`");
    std::fs::write(&file, &right).unwrap();

    // Without the hub, hosts are asked themselves.
    scene.hub.kill().unwrap();
    scene.hub.wait().unwrap();
    scene.bosco(&["releases"]).exits(5).says("can't be reached");
    scene.bosco(&["status"]).exits(5).says("the hosts are asked themselves").says("host1");
    std::fs::remove_file(&file).unwrap();
    scene.bosco(&["release"]).exits(2).says("the fleet has no hub");
    scene.bosco(&["status", "--watch"]).exits(2).says("the fleet has no hub");
}

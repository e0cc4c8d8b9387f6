//! A fleet that has a hub: one machine of the lab runs it, others have agents, and one operator is known to all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bosco_model::HostName;
use bosco_release::{FleetFile, Key};
use serde_json::{Value, json};
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab};

use super::{Said, bosco};

/// The machine that runs the hub.
pub const HUB: &str = "hub";
/// Where the hub listens.
pub const PORT: u16 = 2222;
/// The hub's folder.
pub const STATE: &str = "/var/lib/bosco-hub";
/// Who the operator is in `bosco.toml`.
pub const OPERATOR: &str = "ada";

/// The longest that a host may take to get anywhere.
const SETTLES: Duration = Duration::from_secs(120);
/// How often the hub is asked meanwhile.
const LOOK: Duration = Duration::from_millis(300);

/// A lab's hosts as a fleet with a hub.
pub struct Pull<'a> {
    pub lab: &'a Lab,
    pub fleet: Fleet<'a>,
    /// Those that fetch.
    pub agents: Vec<&'a str>,
    /// What else `bosco.toml` says.
    pub more: String,
}

impl<'a> Pull<'a> {
    /// The fleet, of which nothing runs yet. Every host of the lab but the hub has an agent.
    pub fn new(lab: &'a Lab) -> Self {
        let agents: Vec<&str> = lab.hosts().iter().map(Host::name).filter(|name| *name != HUB).collect();
        let fleet = create(lab.operator(), "fleet").unwrap();
        fleet.add_bosco().unwrap();
        let package = testbed::package(env!("CARGO_BIN_EXE_bosco").as_ref()).unwrap();
        let names: String = lab.hosts().iter().map(|host| format!(" \"{}\"", host.name())).collect();
        let flake = format!(
            "{{
  inputs.nixpkgs.url = \"nixpkgs\";
  inputs.program = {{ url = \"path:{}\"; flake = false; }};
  outputs = {{ nixpkgs, program, ... }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [{names} ] (name: nixpkgs.lib.nixosSystem {{
      system = \"x86_64-linux\";
      specialArgs = {{ inherit program; modules = ((import ./bosco/flake.nix).outputs {{ }}).nixosModules; }};
      modules = [ ./common.nix ./hosts/${{name}}.nix {{ networking.hostName = name; }} ];
    }});
  }};
}}\n",
            package.display()
        );
        let common = format!(
            "{{ modules, program, ... }}: {{
  imports = [ modules.default ];
  services.openssh.enable = true;
  networking.hosts.\"{}\" = [ \"{HUB}\" ];
  services.bosco.hub.package = program;
  services.bosco.agent.package = program;
  deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};
  system.stateVersion = \"26.05\";
}}\n",
            lab.host(HUB).unwrap().address()
        );
        fleet.write("common.nix", &common).unwrap();
        let pull = Self { lab, fleet, agents, more: String::new() };
        pull.own(
            HUB,
            "services.bosco.hub = { enable = true; fleetFile = ../bosco.toml; openFirewall = true; };",
        );
        for name in &pull.agents {
            pull.own(name, "services.bosco.agent.enable = true;");
        }
        pull.trusts(0, None);
        pull.fleet.write("flake.nix", &flake).unwrap();
        pull
    }

    /// What one host's configuration says.
    pub fn own(&self, host: &str, options: &str) {
        let text = format!("{{ config, pkgs, lib, program, ... }}: {{ {options} }}\n");
        self.fleet.write(format!("hosts/{host}.nix"), &text).unwrap();
    }

    /// Writes `bosco.toml`: the version of whom to trust, and the hub's key, where it is known by now.
    pub fn trusts(&self, version: u64, hub: Option<&str>) {
        let mut text = format!("fleet = \"home\"\ntrust = {version}\n");
        if let Some(key) = hub {
            write!(text, "\n[hub]\naddress = \"{HUB}:{PORT}\"\nkeys = [\"{key}\"]\n").unwrap();
        }
        write!(text, "\n[operators.{OPERATOR}]\nkeys = [\"{}\"]\n", self.operator_key()).unwrap();
        text.push_str(&self.more);
        self.fleet.write("bosco.toml", &text).unwrap();
    }

    /// The operator's public key, without its comment.
    pub fn operator_key(&self) -> String {
        let text = fs::read_to_string(self.lab.operator().ssh_key().with_extension("pub")).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    pub fn hub(&self) -> &'a Host {
        self.lab.host(HUB).unwrap()
    }

    /// Brings the hub to its machine, twice: its key is known only once it has run. Gives the key.
    pub fn start_hub(&self) -> String {
        self.bosco(&["apply", "--on", HUB]).exits(0);
        let key =
            self.hub().ssh_ok(&format!("runuser -u bosco-hub -- bosco hub key --state {STATE}")).unwrap();
        let key = key.trim().to_owned();
        self.trusts(1, Some(&key));
        self.bosco(&["apply", "--on", HUB]).exits(0);
        let known = self.known_hosts();
        fs::write(known, format!("[{HUB}]:{PORT} {key}\n")).unwrap();
        key
    }

    /// Kills the hub; systemd starts it again a moment later.
    pub fn kill_hub(&self) {
        let script =
            "systemctl kill -s KILL bosco-hub; while systemctl is-active --quiet bosco-hub; do :; done";
        self.hub().ssh_ok(script).unwrap();
    }

    /// Waits until the hub that was killed is there again.
    pub fn until_hub(&self) {
        let script = format!(
            "for try in $(seq 300); do (</dev/tcp/127.0.0.1/{PORT}) 2>/dev/null && exit; sleep 0.1; done; exit 1"
        );
        self.hub().ssh_ok(&format!("bash -c '{script}'")).unwrap();
    }

    /// Brings the agents to their machines, and has the hub let them in: from then on they are at work.
    pub fn start_agents(&self) {
        self.bosco(&["apply", "--on", &self.agents.join(",")]).exits(0);
        for host in &self.agents {
            self.let_in(host);
        }
    }

    /// The same as an operator does it, one host after the other: what was pushed before holds none of them.
    pub fn enroll_agents(&self) {
        self.bosco(&["apply", "--on", &self.agents.join(",")]).exits(0);
        for host in &self.agents {
            self.bosco(&["enroll", host]).exits(0);
        }
        for host in &self.agents {
            self.until(host, "heard", |stands| !stands["runs"].is_null());
        }
    }

    /// What the configuration of one host says beside its agent.
    pub fn with_agent(&self, host: &str, options: &str) {
        self.own(host, &format!("services.bosco.agent.enable = true; {options}"));
    }

    /// What a host remembers of its activations, read from outside.
    pub fn journal(&self, host: &str) -> Value {
        let file = self.lab.host(host).unwrap().root().join("nix/var/bosco/journal.json");
        serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or(Value::Null)
    }

    /// Waits until the attempt at a release is in a state that holds. Gives the attempt.
    #[track_caller]
    pub fn until_attempt(
        &self,
        host: &str,
        release: u64,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let started = Instant::now();
        loop {
            let attempt = self.journal(host)["attempt"].take();
            if attempt["request"]["number"] == release && holds(&attempt) {
                return attempt;
            }
            let log = || self.log(host);
            assert!(started.elapsed() < SETTLES, "{host} never came to `{what}`: {attempt}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets what waits for it go on at a host. From outside: nobody may be able to reach it.
    pub fn go(&self, host: &str) {
        fs::write(self.lab.host(host).unwrap().root().join("root/go"), "").unwrap();
    }

    /// What a host has told the hub of its activations that were for a release, the newest first: that release, and their end.
    pub fn reports(&self, host: &str) -> Vec<(u64, String)> {
        let (status, said) = self.ask("GET", &format!("/v1/hosts/{host}/reports?last=100"), None);
        assert_eq!(status, 200, "{said}");
        let one = |report: &Value| {
            let report = &report["report"];
            let ending = report["report"]["ending"].as_str().unwrap_or_default();
            (report["number"].as_u64().unwrap_or_default(), ending.to_owned())
        };
        said.as_array().into_iter().flatten().map(one).filter(|(number, _)| *number > 0).collect()
    }

    /// The end of what a host's agent says.
    pub fn log(&self, host: &str) -> String {
        let log = "journalctl --no-pager --output cat --lines 60 -u bosco-agent";
        self.lab.host(host).unwrap().at_keyboard(log).unwrap_or_default()
    }

    /// Waits until a host's agent has said this.
    #[track_caller]
    pub fn until_says(&self, host: &str, text: &str) {
        let started = Instant::now();
        while !self.log(host).contains(text) {
            assert!(started.elapsed() < SETTLES, "{host} never says `{text}`:\n{}", self.log(host));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets a host in at the hub, and tells it whom to trust, by `bosco.toml` as it is: as an operator who is root on both.
    pub fn let_in(&self, host: &str) {
        let machine = self.lab.host(host).unwrap();
        let key = Key::parse(&machine.public_key().unwrap()).unwrap();
        let (status, said) = self.ask("PUT", &format!("/v1/hosts/{host}"), Some(&json!({ "keys": [key] })));
        assert_eq!(status, 204, "the hub does not let {host} in: {said}");
        let text = fs::read_to_string(self.fleet.path().join("bosco.toml")).unwrap();
        let trust = FleetFile::parse(&text).unwrap();
        let trust = trust.trust_of(&HostName::parse(host).unwrap(), &BTreeSet::new());
        let trust = serde_json::to_string(&trust).unwrap();
        let script = format!(
            "mkdir -p /nix/var/bosco && cd /nix/var/bosco && echo '{trust}' > trust.new && mv trust.new trust.json"
        );
        machine.at_keyboard(&script).unwrap();
    }

    /// `bosco release`, signed by the operator. Gives its number: pushes count in the same line, so it is not known before.
    #[track_caller]
    pub fn release(&self) -> u64 {
        self.bosco(&["release", "--sign-with", self.lab.operator().ssh_key().to_str().unwrap()]).exits(0);
        let (status, releases) = self.ask("GET", "/v1/releases", None);
        assert_eq!(status, 200, "{releases}");
        let numbers = releases.as_array().into_iter().flatten();
        numbers.filter_map(|release| release["number"].as_u64()).max().unwrap()
    }

    /// Waits until a host is where a release wants it.
    #[track_caller]
    pub fn until_at(&self, host: &str, release: u64) {
        let holds = |stands: &Value| stands["state"] == "up-to-date" && stands["release"] == release;
        self.until(host, &format!("release {release}"), holds);
    }

    /// What the hub says of one host.
    pub fn stands(&self, host: &str) -> Value {
        let (status, said) = self.ask("GET", "/v1/status", None);
        assert_eq!(status, 200, "{said}");
        let hosts = said["hosts"].as_array().cloned().unwrap_or_default();
        hosts.into_iter().find(|one| one["host"] == host).unwrap_or(Value::Null)
    }

    /// Waits until something holds of what the hub says of a host.
    #[track_caller]
    pub fn until(&self, host: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let stands = self.stands(host);
            if holds(&stands) {
                return stands;
            }
            if started.elapsed() > SETTLES {
                panic!("{host} never came to `{what}`: {stands}\n{}", self.log(host));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// By what the operator's own ssh knows the hub.
    pub fn known_hosts(&self) -> std::path::PathBuf {
        self.lab.operator().dir().join("known-hub")
    }

    /// `bosco WORDS` in the fleet, to its end.
    pub fn bosco(&self, words: &[&str]) -> Said {
        bosco(self.lab.operator(), &self.fleet, words)
    }

    /// The same, with its answer.
    pub fn json(&self, words: &[&str]) -> Value {
        super::json(self.lab.operator(), &self.fleet, words)
    }

    /// The operator's own ssh to the hub, with these arguments.
    pub fn ssh(&self, args: &[&str]) -> Command {
        let mut ssh = self.lab.operator().command("ssh");
        ssh.arg("-F").arg(self.lab.operator().ssh_config());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        ssh.args(["-o", "ConnectTimeout=10", "-p", &PORT.to_string(), "-l", OPERATOR]).args(args).arg(HUB);
        ssh
    }

    /// Asks the hub as an operator does who has nothing but ssh: the status and the body of its answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bosco\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut ssh = self.ssh(&["-W", "bosco:80"]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        // The hub's answer ends the connection, so its end here must stay open until then.
        let mut input = child.stdin.take().unwrap();
        input.write_all(request.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let said = Said::of(&output);
        let (head, body) = said.out.split_once("\r\n\r\n").unwrap_or_else(|| {
            panic!("the hub's answer to {method} {path} is no answer: {}\n{}", said.out, said.err)
        });
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

//! A fleet that has a hub: one machine of the lab runs it, others have agents, and one operator is known to all.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab};

use super::forms::add_bosco;
use super::{Said, bosco, json};

/// The machine that runs the hub.
pub const HUB: &str = "hub";
/// Where the hub listens.
pub const PORT: u16 = 2222;
/// The hub's folder.
pub const STATE: &str = "/var/lib/bosco-hub";
/// Who the operator is in `bosco.toml`.
pub const OPERATOR: &str = "ada";

/// A lab's hosts as a fleet with a hub.
pub struct Pull<'a> {
    pub lab: &'a Lab,
    pub fleet: Fleet<'a>,
    /// Those that fetch.
    pub agents: Vec<&'a str>,
}

impl<'a> Pull<'a> {
    /// The fleet, of which nothing runs yet. Every host of the lab but the hub has an agent.
    pub fn new(lab: &'a Lab) -> Self {
        let agents: Vec<&str> = lab.hosts().iter().map(Host::name).filter(|name| *name != HUB).collect();
        let fleet = create(lab.operator(), "fleet").unwrap();
        add_bosco(&fleet);
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
        let pull = Self { lab, fleet, agents };
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
        json(self.lab.operator(), &self.fleet, words)
    }

    /// Asks the hub as an operator does who has nothing but ssh: the status and the body of its answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bosco\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut ssh = self.lab.operator().command("ssh");
        ssh.arg("-F").arg(self.lab.operator().ssh_config());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        ssh.args(["-o", "ConnectTimeout=10", "-p", &PORT.to_string(), "-l", OPERATOR, "-W", "bosco:80", HUB]);
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

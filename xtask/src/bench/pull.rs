//! What it takes on real machines that hosts fetch: from a published release until three hosts run it and have made it their
//! default, beside what is wanted and beside the switch by hand; an agent's memory; and closures ([`bulk`]).
//!
//! A release is published when `bosco release` ends: what it evaluates, builds, packs and sends is done by then. The machines
//! share one kernel, so their clocks are one, and when a link was made says when a host came to a system.

mod bulk;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec};

use crate::bench::apply::list;
use crate::bench::commands::{all_at_once, command, quiet, text};
use crate::bench::{Figure, median, time};
use crate::tools::build;

const HUB: &str = "hub";
const HOSTS: [&str; 3] = ["host1", "host2", "host3"];
const ADDRESS: &str = "hub:2222";
const RUNS: usize = 7;
/// From a release's publication until all run it and have made it their default, in seconds.
const GOAL: f64 = 2.0;
/// Resident memory of an agent that waits, in megabytes.
const MEMORY: f64 = 15.0;
/// The longest that hosts may take to get anywhere.
const SETTLES: Duration = Duration::from_secs(180);
/// How long an agent has nothing to do before its memory is looked at.
const REST: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let poll = build("simulated", "bosco-poll", true)?;
    let lab = Lab::up(&LabSpec::named([HUB].into_iter().chain(HOSTS)))?;
    let bench = Bench::start(&lab, bosco)?;
    let mut figures = bench.announce()?;
    let waits = bench.memory(HOSTS[1])?;
    figures.push(Figure::at_most("memory of an agent that waits", waits, "MB", MEMORY, 1.0));
    figures.extend(bulk::run(&bench, &poll)?);
    let worked = bench.memory(HOSTS[0])?;
    figures.push(Figure::beside(
        "memory of an agent that has fetched 200 MB, beside one that has not",
        worked,
        "MB",
        waits,
    ));
    Ok(figures)
}

/// A fleet whose hosts fetch.
struct Bench<'a> {
    lab: &'a Lab,
    fleet: Fleet<'a>,
    bosco: PathBuf,
    hub_key: String,
}

impl<'a> Bench<'a> {
    /// Has the hub and the agents at work, and nothing released.
    fn start(lab: &'a Lab, bosco: PathBuf) -> Result<Self> {
        let fleet = create(lab.operator(), "bench")?;
        fleet.add_bosco()?;
        let mut bench = Self { lab, fleet, bosco, hub_key: String::new() };
        bench.trusts()?;
        bench.write("0", "")?;
        eprintln!("pull: the hub and the agents are deployed");
        bench.bosco(&["apply"])?;
        let hub = lab.host(HUB)?;
        bench.hub_key = hub.ssh_ok("runuser -u bosco-hub -- bosco hub key")?.trim().to_owned();
        bench.trusts()?;
        bench.bosco(&["apply", "--on", HUB])?;
        for host in HOSTS {
            bench.bosco(&["enroll", host])?;
        }
        let mut watch = bench.watch()?;
        watch.until(|status| HOSTS.iter().all(|host| line(status, host)["connected"] == true))?;
        Ok(bench)
    }

    /// Writes `bosco.toml`, with the hub's key where it is known by now.
    fn trusts(&self) -> Result<()> {
        let key = std::fs::read_to_string(self.lab.operator().ssh_key().with_extension("pub"))?;
        let mut text = format!("fleet = \"bench\"\n[operators.ada]\nkeys = [\"{}\"]\n", key.trim());
        if !self.hub_key.is_empty() {
            write!(text, "[hub]\naddress = \"{ADDRESS}\"\nkeys = [\"{}\"]\n", self.hub_key)?;
        }
        self.fleet.write("bosco.toml", &text)?;
        self.fleet.commit()
    }

    /// Writes the fleet: one line of every host that fetches, and what the first one has besides.
    fn write(&self, round: &str, first: &str) -> Result<()> {
        let names: Vec<&str> = [HUB].into_iter().chain(HOSTS).collect();
        let program = testbed::package(&self.bosco)?;
        let address = self.lab.host(HUB)?.address();
        let text = format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.program = {{ url = "path:{}"; flake = false; }};
  outputs = {{ nixpkgs, program, ... }}: {{
    nixosConfigurations = nixpkgs.lib.genAttrs [ {} ] (name: nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [ ((import ./bosco/flake.nix).outputs {{ }}).nixosModules.default ({{ pkgs, lib, ... }}: {{
        networking.hostName = name;
        networking.hosts."{address}" = [ "{HUB}" ];
        services.openssh.enable = true;
        system.stateVersion = "26.05";
        services.bosco.hub = {{
          enable = name == "{HUB}"; package = program; fleetFile = ./bosco.toml; openFirewall = true;
        }};
        services.bosco.agent = {{ enable = name != "{HUB}"; package = program; }};
        environment.etc = if name == "{HUB}" then {{ }} else {{
          round.text = "{round}";
        }} // lib.optionalAttrs (name == "{}") {{ {first} }};
      }}) ];
    }});
  }};
}}
"#,
            program.display(),
            list(&names),
            HOSTS[0],
        );
        self.fleet.write("flake.nix", &text)?;
        self.fleet.commit()
    }

    fn bosco(&self, args: &[&str]) -> Result<()> {
        let mut bosco = command(self.lab.operator(), &self.bosco);
        quiet(bosco.args(args).args(["--color", "never"]).current_dir(self.fleet.path()))
    }

    /// `bosco release`: gives its number, and when it was published.
    fn release(&self) -> Result<(u64, f64)> {
        let mut bosco = command(self.lab.operator(), &self.bosco);
        bosco.args(["release", "--json", "--sign-with"]).arg(self.lab.operator().ssh_key());
        let said = text(bosco.current_dir(self.fleet.path()))?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let number = events.filter_map(|event| event["published"]["number"].as_u64()).next_back();
        Ok((number.context("`bosco release` has published nothing")?, at))
    }

    /// What the hub says of its hosts, whenever that changes.
    fn watch(&self) -> Result<Watch> {
        let mut bosco = self.lab.operator().command(&self.bosco);
        bosco.args(["status", "--watch", "--json", "--on", &HOSTS.join(",")]);
        bosco.current_dir(self.fleet.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = bosco.spawn().context("could not run bosco")?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(at) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
                let Ok(status) = serde_json::from_str(&line) else { return };
                if sender.send((at.as_secs_f64(), status)).is_err() {
                    return;
                }
            }
        });
        Ok(Watch { child, said })
    }

    /// How soon all hosts have a release.
    fn announce(&self) -> Result<Vec<Figure>> {
        let names = HOSTS.to_vec();
        let (mut heard, mut ran, mut committed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut switches, mut connections) = (Vec::new(), Vec::new());
        for run in 0..=RUNS {
            eprintln!("pull: a release for {} hosts, run {run} of {RUNS}", HOSTS.len());
            self.write(&format!("release {run}"), "")?;
            let mut watch = self.watch()?;
            let (number, at) = self.release()?;
            let all = watch.until_at(&HOSTS, number)?;
            let since = |link: &str| {
                let seconds = HOSTS.iter().map(|host| Ok(made(self.lab.host(host)?, link)? - at));
                let last = seconds.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
                Ok::<_, anyhow::Error>(Duration::from_secs_f64(last))
            };
            let (runs, commits) = (since("/run/current-system")?, since("/nix/var/nix/profiles/system")?);
            let switch = "/run/current-system/bin/switch-to-configuration test";
            let switch = time(|| all_at_once(self.lab.operator(), &names, switch))?;
            let connection = time(|| all_at_once(self.lab.operator(), &names, "true"))?;
            // What is the first time only is not measured.
            if run > 0 {
                heard.push(Duration::from_secs_f64((all - at).max(0.0)));
                ran.push(runs);
                committed.push(commits);
                switches.push(switch);
                connections.push(connection);
            }
        }
        let switch = (median(switches) - median(connections)).max(0.0);
        let committed = median(committed);
        Ok(vec![
            Figure::at_most(
                "a release is the default of 3 hosts, after its publication",
                committed,
                "s",
                GOAL,
                1.0,
            ),
            Figure::beside("the same, beside the switch by hand on all of them", committed, "s", switch),
            Figure::beside("a release runs on 3 hosts, beside the switch by hand", median(ran), "s", switch),
            Figure::beside("the hub has heard so of all of them, beside 2 s", median(heard), "s", GOAL),
        ])
    }

    /// Resident memory of a host's agent, in megabytes.
    fn memory(&self, host: &str) -> Result<f64> {
        std::thread::sleep(REST);
        let script = "grep VmRSS: /proc/$(systemctl show --value -p MainPID bosco-agent)/status";
        let said = self.lab.host(host)?.at_keyboard(script)?;
        let kilobytes = said.split_whitespace().nth(1).context("no VmRSS")?;
        Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
    }
}

/// When a link of a host was made, in seconds since 1970.
fn made(host: &Host, link: &str) -> Result<f64> {
    Ok(host.at_keyboard(&format!("stat -c %.9Y {link}"))?.trim().parse()?)
}

/// `bosco status --watch`. It ends with this.
struct Watch {
    child: Child,
    said: Receiver<(f64, Value)>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watch {
    /// Waits until something holds; gives since when, in seconds since 1970.
    fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Result<f64> {
        let started = Instant::now();
        let mut last = Value::Null;
        loop {
            let left = SETTLES.saturating_sub(started.elapsed());
            let Ok((at, status)) = self.said.recv_timeout(left) else {
                bail!("the hosts never got there; the last that was said: {last}");
            };
            if holds(&status) {
                return Ok(at);
            }
            last = status;
        }
    }

    /// Waits until hosts are where a release wants them.
    fn until_at(&mut self, hosts: &[&str], number: u64) -> Result<f64> {
        self.until(|status| {
            hosts.iter().all(|host| {
                let line = line(status, host);
                line["release"] == number && line["state"] == "up-to-date"
            })
        })
    }
}

/// What is said of one host.
fn line<'s>(status: &'s Value, host: &str) -> &'s Value {
    let mut lines = status.as_array().into_iter().flatten();
    lines.find(|line| line["host"] == host).unwrap_or(&Value::Null)
}

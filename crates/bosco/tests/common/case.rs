//! One host of a lab with a fleet of its own, so that many faults can be played side by side: nearly all of their time is
//! spent waiting for a window to pass.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, Operator};

use super::follow::Apply;
use super::{Said, bosco, repository, stands, state};

/// How long a fresh connection may take on the hosts here, in seconds: they share a busy machine.
pub const WINDOW: u64 = 20;
/// The same where none can come.
pub const SHORT_WINDOW: u64 = 8;
/// How long an activation may take on them, in seconds.
pub const ACTIVATION: u64 = 60;
/// What a host may take beyond its window until it can be reached again.
pub const BEYOND: Duration = Duration::from_secs(10);
/// The longest that a host is at one attempt, whatever becomes of it: its window, the way back, and the wait for who asked.
const SETTLES: Duration = Duration::from_secs(120);
/// A host that has not let anybody in for so long does not answer.
const ANSWER: Duration = Duration::from_secs(3);

fn short() -> String {
    format!("deployment.update.confirmTimeout = {SHORT_WINDOW}; ")
}

/// One host, and a fleet that has only this one.
pub struct Case<'a> {
    pub operator: &'a Operator,
    pub host: &'a Host,
    pub fleet: Fleet<'a>,
}

impl<'a> Case<'a> {
    /// A fleet of the host of that name, as it was installed but for bosco's options.
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        let (operator, host) = (lab.operator(), lab.host(name).unwrap());
        let fleet = create(operator, &format!("fleet-{name}")).unwrap();
        for module in ["deployment", "activation"] {
            let file = format!("{module}.nix");
            fleet
                .write(&file, &fs::read_to_string(repository().join("nix/modules").join(&file)).unwrap())
                .unwrap();
        }
        let common = format!(
            "{{ lib, ... }}: {{ imports = [ ./deployment.nix ./activation.nix ./own.nix ];
  services.openssh.enable = true;
  networking.hostName = \"{name}\";
  networking.firewall.allowPing = true;
  deployment.update = {{ confirmTimeout = lib.mkDefault {WINDOW}; activationTimeout = lib.mkDefault {ACTIVATION}; }};
  system.stateVersion = \"26.05\";
}}\n"
        );
        fleet.write("common.nix", &common).unwrap();
        let flake = format!(
            "{{
  inputs.nixpkgs.url = \"nixpkgs\";
  outputs = {{ self, nixpkgs }}: {{
    nixosConfigurations.{name} = nixpkgs.lib.nixosSystem {{ system = \"x86_64-linux\"; modules = [ ./common.nix ]; }};
  }};
}}\n"
        );
        fleet.write("flake.nix", &flake).unwrap();
        let case = Self { operator, host, fleet };
        case.own("");
        case
    }

    /// What the host's configuration says beside the common part.
    pub fn own(&self, options: &str) {
        self.fleet.write("own.nix", &format!("{{ config, pkgs, lib, ... }}: {{ {options} }}\n")).unwrap();
    }

    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// `bosco WORDS --on HOST`, to its end.
    pub fn bosco(&self, words: &[&str]) -> Said {
        bosco(self.operator, &self.fleet, &[words, &["--on", self.name()]].concat())
    }

    pub fn apply(&self) -> Said {
        self.bosco(&["apply"])
    }

    /// What the host's configuration says where nobody will be there to confirm it.
    pub fn own_unconfirmed(&self, options: &str) {
        self.own(&format!("{}{options}", short()));
    }

    /// From now on somebody will be there, who may need their time on a busy machine.
    pub fn with_time(&self) {
        let own = fs::read_to_string(self.fleet.path().join("own.nix")).unwrap();
        self.fleet.write("own.nix", &own.replace(&short(), "")).unwrap();
    }

    /// Starts an apply whose events can be followed.
    pub fn start(&self) -> Apply {
        Apply::start(self.operator, &self.fleet, &["--on", self.name()])
    }

    pub fn state(&self) -> String {
        state(self.operator, &self.fleet, self.name())
    }

    /// `bosco status` in words.
    pub fn status(&self) -> Said {
        self.bosco(&["status"])
    }

    /// What the host remembers, read from outside: it may be cut off, or be on its way down.
    pub fn journal(&self) -> Value {
        let text = fs::read(self.host.root().join("nix/var/bosco/journal.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or(Value::Null)
    }

    /// Where the host's attempt is, read from outside.
    pub fn at(&self) -> String {
        self.journal()["attempt"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// What the host's last attempt is known by, read from outside.
    pub fn attempt(&self) -> String {
        self.journal()["attempt"]["request"]["id"].as_str().unwrap_or_default().to_owned()
    }

    /// How the host's attempt ended, read from outside.
    pub fn ending(&self) -> String {
        self.journal()["attempt"]["ending"]["ending"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the host is at a state of its attempt.
    #[track_caller]
    pub fn until_at(&self, state: &str) {
        self.until(state, || self.at() == state);
    }

    /// Waits until something holds of the host's attempt.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < SETTLES,
                "{} never came to `{what}`: {}",
                self.name(),
                self.journal()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the host has ended what it was at, and fails unless that ended so.
    #[track_caller]
    pub fn ends(&self, endings: &[&str]) {
        self.until_at("ended");
        let ending = self.ending();
        assert!(endings.contains(&ending.as_str()), "{} ended {ending}: {}", self.name(), self.journal());
    }

    /// Fails where an activation that has ended has left anything on the host.
    #[track_caller]
    pub fn left_nothing(&self) {
        let script = "for try in $(seq 100); do \
                        left=$(systemctl list-units --all --plain --no-legend 'bosco-*'; \
                               cd /nix/var/nix/gcroots/bosco && ls -d candidate before booted 2>/dev/null; \
                               ls -d /run/nixos/*-list /nix/var/nix/profiles/system-profiles/bosco* 2>/dev/null); \
                        [ -n \"$left\" ] || exit 0; sleep 0.1; done; echo \"$left\"";
        let left = self.host.ssh_ok(script).unwrap();
        assert!(left.trim().is_empty(), "{}: the activation has left something:\n{left}", self.name());
    }

    /// Fails unless the host runs and boots what it did before, and has nothing left of what was tried.
    #[track_caller]
    pub fn stands_as(&self, before: &str) {
        let now = stands(self.host);
        assert_eq!(now, before, "{}: what it runs or boots has changed; {}", self.name(), self.journal());
        self.left_nothing();
    }

    /// Applies, and looks from the beginning of the switch on when the host last did not answer. Gives what came of it, and
    /// how long after that beginning it was away last: `None` where it always answered.
    pub fn apply_and_watch(&self) -> (super::follow::Came, Option<Duration>) {
        let mut apply = self.start();
        apply.until_effect(self.name(), "switch");
        let switched = Instant::now();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut away = None;
                while !over.load(Ordering::Relaxed) {
                    let asked = switched.elapsed();
                    // As a user who may: sshd shuts out who only knocks.
                    if !self.host.ssh_within("true", ANSWER).is_ok_and(|output| output.status.success()) {
                        away = Some(asked);
                    }
                    std::thread::sleep(Duration::from_millis(300));
                }
                away
            });
            let came = catch_unwind(AssertUnwindSafe(|| apply.ends()));
            over.store(true, Ordering::Relaxed);
            let away = watch.join().unwrap();
            (came.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), away)
        })
    }
}

/// A case by its name, which is also its host's, and what is played with it.
pub type Named = (&'static str, fn(&Case<'_>));

/// Plays cases, each on its own host of one lab, at most so many at once; fails with all that failed, by name.
#[track_caller]
pub fn side_by_side(lab: &Lab, at_once: usize, cases: &[Named]) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((name, play)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let came = catch_unwind(AssertUnwindSafe(|| play(&Case::new(lab, name))));
                    println!("{name}: {:.1} s", started.elapsed().as_secs_f64());
                    if let Err(panic) = came {
                        let words = panic.downcast_ref::<String>().cloned();
                        let words = words.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                        failed.lock().unwrap().insert(format!("{name}: {}", words.unwrap_or_default()));
                    }
                }
            });
        }
    });
    let failed: Vec<String> = failed.into_inner().unwrap().into_iter().collect();
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n\n")
    );
}

/// The names of cases, for a lab's hosts.
pub fn names(cases: &[Named]) -> Vec<&'static str> {
    cases.iter().map(|(name, _)| *name).collect()
}

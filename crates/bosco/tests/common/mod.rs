//! Starting bosco as an operator does, and reading what it says.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)] // Each test binary uses its part; what takes long is told.

pub mod case;
pub mod clock;
pub mod follow;
pub mod forms;
pub mod plaintext;
pub mod pull;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testbed::Operator;
use testbed::fleet::Fleet;

/// The repository of bosco itself.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `bosco ARGS` in the fleet's directory.
pub fn command(operator: &Operator, fleet: &Fleet<'_>, args: &[&str]) -> Command {
    let mut command = operator.command(env!("CARGO_BIN_EXE_bosco"));
    command.args(args).current_dir(fleet.path()).stdin(Stdio::null());
    command
}

/// A fleet of one host, `web`, which is what `web.nix` says, beside bosco's own modules.
pub fn fleet_of_web(operator: &Operator) -> Fleet<'_> {
    let flake = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.web = nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [ ./web.nix ]; };
  };
}"#;
    let fleet = testbed::fleet::create(operator, "fleet").unwrap();
    fleet.add_bosco().unwrap();
    fleet.write("flake.nix", flake).unwrap();
    fleet
}

/// Runs `bosco ARGS` at a terminal, to its end, and types each answer once its question stands there.
pub fn at_terminal(operator: &Operator, fleet: &Fleet<'_>, args: &str, answers: &[(&str, &str)]) -> Said {
    let mut script = operator.command("script");
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_bosco"));
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).current_dir(fleet.path());
    typing(script, answers)
}

/// Runs what shows a terminal, to its end, and types each answer once its question stands there.
pub fn typing(mut command: Command, answers: &[(&str, &str)]) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut seen) = (Vec::new(), 0);
    let mut answers = answers.iter();
    let mut next = answers.next();
    let mut buffer = [0; 4096];
    loop {
        let read = screen.read(&mut buffer).unwrap();
        shown.extend_from_slice(&buffer[..read]);
        if read == 0 {
            break;
        }
        while let Some((question, answer)) = next
            && let Some(at) =
                shown[seen..].windows(question.len()).position(|some| some == question.as_bytes())
        {
            seen += at + question.len();
            keyboard.write_all(answer.as_bytes()).unwrap();
            next = answers.next();
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(next.is_none(), "`{}` was not asked:\n{shown}", next.unwrap().0);
    Said { code: child.wait().unwrap().code().unwrap_or(-1), out: shown, err: String::new() }
}

/// What a run of bosco came to.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails, with all that was said, unless bosco ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "bosco ended with another exit code\n{}\n{}", self.out, self.err);
        self
    }

    /// Fails, with all that was said, unless this is part of it.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let found = self.out.contains(text) || self.err.contains(text);
        assert!(found, "bosco did not say `{text}` but\n{}\n{}", self.out, self.err);
        self
    }

    /// Fails, with all that was said, if this is part of it.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        let found = self.out.contains(text) || self.err.contains(text);
        assert!(!found, "bosco said `{text}`:\n{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `bosco ARGS` to its end.
pub fn bosco(operator: &Operator, fleet: &Fleet<'_>, args: &[&str]) -> Said {
    Said::of(&command(operator, fleet, args).output().unwrap())
}

/// The answer of `bosco ARGS --json`.
pub fn json(operator: &Operator, fleet: &Fleet<'_>, args: &[&str]) -> Value {
    let said = bosco(operator, fleet, &[args, &["--json"]].concat());
    assert!(matches!(said.code, 0 | 5), "{}", said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
}

/// The state that `bosco status` gives a host.
pub fn state(operator: &Operator, fleet: &Fleet<'_>, host: &str) -> String {
    let status = json(operator, fleet, &["status", "--on", host]);
    status[0]["state"].as_str().unwrap_or_else(|| panic!("no state of {host}: {status}")).to_owned()
}

/// Where a host stands: what it runs, what its boot loader's default boots.
pub fn stands(host: &testbed::Host) -> String {
    host.ssh_ok(
        "readlink /run/current-system; readlink -f /nix/var/nix/profiles/system; \
         entry=$(sed -n 's/^default *//p' /boot/loader/loader.conf); cat \"/boot/loader/entries/${entry%.conf}.conf\"",
    )
    .unwrap()
}

/// The toplevel that a host runs.
pub fn toplevel_of(host: &testbed::Host) -> String {
    host.ssh_ok("readlink -f /run/current-system").unwrap().trim().to_owned()
}

/// What a host knows its boot by: after the next one it is another.
pub fn boot(host: &testbed::Host) -> String {
    host.at_keyboard("stat -c %Y /proc/1; sed 's/.*) //' /proc/1/stat | cut -d' ' -f20").unwrap()
}

/// Fails unless a host's store is sound: every path that its database names is there, as it was made.
pub fn is_sound(host: &testbed::Host) {
    let output = host.ssh("nix-store --verify --check-contents").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the store of {} is damaged:\n{said}", host.name());
}

/// Waits until an activation is under way on a host.
pub fn until_activating(host: &testbed::Host) {
    until(host, "systemctl is-active --quiet bosco-activation");
}

/// Waits until none is.
pub fn until_idle(host: &testbed::Host) {
    until(host, "! systemctl is-active --quiet bosco-activation");
}

fn until(host: &testbed::Host, holds: &str) {
    host.ssh_ok(&format!("for try in $(seq 300); do {holds} && exit; sleep 0.1; done; exit 1")).unwrap();
}

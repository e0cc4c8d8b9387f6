//! What users of Colmena have in their scripts and their fingers means the same here.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, command, stands, state, toplevel_of, typing};
use testbed::fleet::{Fleet, create, sample};
use testbed::{Lab, LabSpec, Operator};

#[test]
fn flags_of_scripts_are_taken() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    bosco(
        &operator,
        &fleet,
        &["apply", "build", "--on", "host1", "--parallel", "3", "--eval-node-limit", "auto", "--no-keys"],
    )
    .exits(0)
    .says("host1: built")
    .does_not_say("host2");
    bosco(&operator, &fleet, &["apply", "host2", "--on", "host1"])
        .exits(2)
        .says("`--goal` says how far to go");

    bosco(&operator, &fleet, &["apply", "boot"]).exits(2).says("`--goal boot` says how far to go");

    bosco(&operator, &fleet, &["build", "--keep-result", "--on", "host1"]).exits(0);
    let kept = std::fs::read_link(fleet.path().join(".gcroots/node-host1")).unwrap();
    assert!(kept.to_string_lossy().contains("-nixos-system-host1"), "{}", kept.display());

    for flag in ["-f", "--config"] {
        bosco(&operator, &fleet, &["hosts", flag, "none.nix"]).exits(2).says("none.nix");
    }

    fleet.write("ask.nix", "{ nodes, ... }: nodes.host1.config.networking.hostName").unwrap();
    for args in [&["eval", "ask.nix"][..], &["eval", "-E", "nodes.host1.config.networking.hostName"]] {
        bosco(&operator, &fleet, args).exits(0).says("\"host1\"");
    }
    bosco(&operator, &fleet, &["eval", "builtins.getEnv \"HOME\""]).exits(0).says("\"\"");
    bosco(&operator, &fleet, &["eval", "builtins.getEnv \"HOME\"", "--impure"]).exits(0).says("\"/");
    bosco(
        &operator,
        &fleet,
        &["eval", "builtins.currentSystem", "--impure", "--nix-option", "eval-system", "riscv64-linux"],
    )
    .exits(0)
    .says("riscv64-linux");

    // What lies beside a file is where the file is.
    let beside = fleet.path().parent().unwrap();
    std::fs::write(beside.join("beside.nix"), "nodes: nodes.host1.config.networking.hostName").unwrap();
    std::fs::write(beside.join("ask.nix"), "import ./beside.nix nodes").unwrap();
    bosco(&operator, &fleet, &["eval", "../ask.nix"]).exits(0).says("\"host1\"");
}

/// What `nix repl` says to one line.
fn repl(operator: &Operator, fleet: &Fleet<'_>, args: &[&str], line: &str) -> common::Said {
    let input = fleet.path().join("../input");
    std::fs::write(&input, format!("{line}\n:q\n")).unwrap();
    let mut repl = command(operator, fleet, &[&["repl"], args].concat());
    common::Said::of(&repl.stdin(std::fs::File::open(&input).unwrap()).output().unwrap())
}

#[test]
fn who_looks_around_puts_nothing_into_the_store_that_git_does_not_know() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.commit().unwrap();
    std::fs::write(fleet.path().join("identity.key"), "AGE-SECRET-KEY-1").unwrap();
    let name = "nodes.host1.config.networking.hostName";
    repl(&operator, &fleet, &[], name).exits(0).says("\"host1\"");
    repl(&operator, &fleet, &["--flake", "."], name).exits(0).says("\"host1\"");
    let in_store = |file: &str| {
        let paths = std::fs::read_dir(operator.store().join("nix/store")).unwrap().flatten();
        paths.filter(|path| path.path().join(file).exists()).count()
    };
    assert!(in_store("flake.nix") > 0, "it is not looked for where the fleet is");
    assert_eq!(in_store("identity.key") + in_store(".git"), 0);

    // What a reference says besides counts here as everywhere.
    let part = create(&operator, "part").unwrap();
    for file in std::fs::read_dir(fleet.path()).unwrap().flatten().filter(|file| file.path().is_file()) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        part.write(format!("fleet/{}", file.file_name().to_str().unwrap()), &text).unwrap();
    }
    part.commit().unwrap();
    repl(&operator, &part, &["--flake", "git+file:.?dir=fleet"], name).exits(0).says("\"host1\"");
    repl(&operator, &part, &["--flake", "./fleet"], name).exits(0).says("\"host1\"");
}

#[test]
fn flags_of_scripts_are_taken_by_all_commands_that_colmena_takes_them_with() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let flags = ["--eval-node-limit", "auto", "--parallel", "2", "--no-keys"];
    for command in ["build", "upload-keys", "apply-local"] {
        // There is no such host, which is told once all else was understood.
        let host = if command == "apply-local" { "--node" } else { "--on" };
        let args = [&[command, host, "nobody"], &flags[..]].concat();
        bosco(&operator, &fleet, &args).exits(2).says("nobody").does_not_say("unexpected argument");
    }
    let args = [&["exec", "--on", "nobody"], &flags[..], &["--", "true"]].concat();
    bosco(&operator, &fleet, &args).exits(2).says("nobody").does_not_say("unexpected argument");
}

#[test]
fn with_parallel_one_host_is_delivered_to_after_the_other() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let said = bosco(lab.operator(), &fleet, &["apply", "--parallel", "1", "--json"]).exits(0);
    let events = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut hosts: Vec<String> = events
        .filter(|event| ["activating", "copied", "ended"].iter().any(|kind| event["event"] == *kind))
        .map(|event| event["host"].as_str().unwrap().to_owned())
        .collect();
    hosts.dedup();
    assert_eq!(hosts.len(), 2, "they were at work side by side: {}", said.out);
}

#[test]
fn what_somebody_else_has_deployed_is_replaced_only_where_that_is_allowed() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let (operator, web) = (lab.operator(), lab.host("web").unwrap());
    let fleet = create(operator, "fleet").unwrap();
    fleet.write("flake.nix", common::forms::RAW).unwrap();
    fleet.write("hosts.nix", common::forms::HOSTS).unwrap();
    let own = |text: &str| {
        let text = format!(
            "{{ deployment.replaceUnknownProfiles = false; environment.etc.greeting.text = \"{text}\"; }}"
        );
        fleet.write("own.nix", &text).unwrap();
    };
    own("one");
    // The system that it was installed with, made here, is known; what is not in the store here is not.
    bosco(operator, &fleet, &["apply"]).exits(0).says("web: committed");
    own("two");
    let first = toplevel_of(web);
    let delete = |path: &str| {
        let deleted = operator.command("nix-store").args(["--delete", path]).output().unwrap();
        assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    };
    delete(&first);
    // What bosco has brought there is known wherever it is asked from.
    bosco(operator, &fleet, &["apply", "--goal", "push"]).exits(0).says("pushed");
    bosco(operator, &fleet, &["apply"]).exits(0).says("web: committed");
    web.ssh_ok(&format!(
        "nix-env --profile /nix/var/nix/profiles/system --set {first} && {first}/bin/switch-to-configuration switch"
    ))
    .unwrap();
    let before = stands(web);
    own("three");
    bosco(operator, &fleet, &["apply"])
        .exits(4)
        .says("somebody else may have deployed it")
        .says("--force-replace");
    assert_eq!(stands(web), before);
    bosco(operator, &fleet, &["apply", "--force-replace-unknown-profiles"]).exits(0).says("web: committed");
    assert_eq!(state(operator, &fleet, "web"), "up-to-date");
}

/// A host that has bosco, and its own fleet with all that that needs.
const ITSELF: &str = r#"{ pkgs, lib, ... }: {
  networking.hostName = "web";
  services.openssh.enable = true;
  system.stateVersion = "26.05";
  environment.systemPackages = [ PACKAGE ];
  NIXPKGS
  deployment.targetHost = null;
  deployment.allowLocalDeployment = ALLOWED;
  deployment.privilegeEscalationCommand = [ "/srv/become" "--" ];
  environment.etc.greeting.text = "GREETING";
}"#;

#[test]
fn a_host_deploys_itself_where_it_may() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let (operator, web) = (lab.operator(), lab.host("web").unwrap());
    let fleet = create(operator, "fleet").unwrap();
    let package = testbed::package(env!("CARGO_BIN_EXE_bosco").as_ref()).unwrap();
    let flake = format!(
        "{{
  inputs.nixpkgs.url = \"nixpkgs\";
  inputs.program = {{ url = \"path:{}\"; flake = false; }};
  outputs = {{ nixpkgs, program, ... }}: {{
    colmena = import ./hosts.nix (import nixpkgs {{ system = \"x86_64-linux\"; }} // {{ inherit program; }});
  }};
}}",
        package.display()
    );
    fleet.write("flake.nix", &flake).unwrap();
    let hosts = |greeting: &str, allowed: &str, package: &str| {
        let web =
            ITSELF.replace("GREETING", greeting).replace("ALLOWED", allowed).replace("PACKAGE", package);
        format!("outer: {{ meta.nixpkgs = outer; web = {web}; }}")
    };
    let first = hosts("one", "true", "\"${outer.program}\"")
        .replace("targetHost = null", "targetHost = \"web\"")
        .replace("NIXPKGS", "environment.etc.nixpkgs.source = \"${pkgs.path}\";");
    fleet.write("hosts.nix", &first).unwrap();
    bosco(operator, &fleet, &["apply"]).exits(0).says("web: committed");

    let package = web.ssh_ok("dirname $(dirname $(readlink -f /run/current-system/sw/bin/bosco))").unwrap();
    let package = format!("(builtins.storePath \"{}\")", package.trim());
    let nixpkgs = web.ssh_ok("readlink -f /etc/nixpkgs").unwrap();
    let lay = |text: &str| {
        let text = text.replace("NIXPKGS", "");
        let script = format!(
            "mkdir -p /srv/fleet && cat > /srv/fleet/hosts.nix <<'END'\n{text}\nEND\necho 'import ./hosts.nix (import <nixpkgs> {{ }})' > /srv/fleet/hive.nix"
        );
        web.ssh_ok(&script).unwrap();
    };
    let apply = format!(
        "cd /srv/fleet && NIX_PATH=nixpkgs={} bosco apply-local 2>&1; echo \"exit $?\"",
        nixpkgs.trim()
    );
    lay(&hosts("two", "false", &package));
    let said = web.ssh_ok(&apply).unwrap();
    assert!(said.contains("allowLocalDeployment") && said.contains("exit 4"), "{said}");
    assert_eq!(web.ssh_ok("cat /etc/greeting").unwrap(), "one");

    lay(&hosts("two", "true", &package));
    let said = web.ssh_ok(&apply).unwrap();
    assert!(said.contains("committed") && said.contains("exit 0"), "{said}");
    assert_eq!(web.ssh_ok("cat /etc/greeting").unwrap(), "two");
    let said = web.ssh_ok(&apply.replace("apply-local", "apply-local switch --sudo --node web")).unwrap();
    assert!(said.contains("up to date"), "{said}");
    let said = web.ssh_ok(&apply.replace("apply-local", "apply-local --node db")).unwrap();
    assert!(said.contains("`db`") && said.contains("exit 2"), "{said}");

    // Who is not root becomes it as the fleet says.
    lay(&hosts("three", "true", &package));
    let become_root = "#!/bin/sh\nid -un >> /srv/became; exec sudo \"$@\"\n";
    web.ssh_ok(&format!(
        "useradd --create-home --groups nix-users bob && echo bob:secret | chpasswd && install -m 666 /dev/null /srv/became
         printf '%s' '{become_root}' > /srv/become && chmod 755 /srv/become"
    ))
    .unwrap();
    let by_bob =
        apply.replace("NIX_PATH", "runuser -u bob -- env -u XDG_RUNTIME_DIR HOME=/home/bob NIX_PATH");
    let said = web.ssh_ok(&by_bob).unwrap();
    assert!(said.contains("this user can't become root there") && said.contains("exit 4"), "{said}");
    assert_eq!(web.ssh_ok("cat /etc/greeting").unwrap(), "two");
    web.ssh_ok("echo 'bob ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/bob").unwrap();
    let said = web.ssh_ok(&by_bob).unwrap();
    assert!(said.contains("committed") && said.contains("exit 0"), "{said}");
    assert_eq!(web.ssh_ok("cat /etc/greeting; sort -u /srv/became").unwrap(), "threebob\n");

    // At a terminal sudo may ask, once.
    lay(&hosts("four", "true", &package).replace("\"/srv/become\"", "\"sudo\""));
    web.ssh_ok("echo 'bob ALL=(ALL) ALL' > /etc/sudoers.d/bob").unwrap();
    let mut ssh = operator.command("ssh");
    ssh.arg("-F").arg(operator.ssh_config()).args(["-tt", "web", &by_bob]);
    let said = typing(ssh, &[("password", "secret\n")]).says("committed").says("exit 0").out;
    assert_eq!(said.matches("password").count(), 1, "{said}");
    assert_eq!(web.ssh_ok("cat /etc/greeting").unwrap(), "four");
}

//! Real machines that build themselves: they fetch their directory of a tree, build it and run it.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::pull::{HUB, Pull};
use common::{Said, boot, bosco};
use serde_json::Value;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec};

/// A host by its `configuration.nix`, with the nixpkgs of the machine itself; and one that is a flake.
const PLAIN: &str = "plain";
const FLAKE: &str = "flake";

/// Where a path of the operator's machine is, as a host sees it.
fn on(host: &Host, path: &Path) -> std::path::PathBuf {
    host.root().join(path.strip_prefix("/").unwrap())
}

fn greeting(host: &Host) -> String {
    host.at_keyboard("cat /etc/greeting /etc/news 2>/dev/null || true").unwrap()
}

/// Lays out the tree: both hosts share what lies in `utils`, by links.
fn lay_out<'a>(pull: &Pull<'a>, news: &Path) -> Fleet<'a> {
    let operator = pull.lab.operator();
    let fleet = create(operator, "tree").unwrap();
    let nix = |of: &str| {
        let said = bosco(operator, &pull.fleet, &["eval", "--json", of]).exits(0);
        serde_json::from_str::<String>(&said.out).unwrap()
    };
    // What the hosts have in their stores already, by the system that was pushed to them.
    let program = nix("nodes.plain.config.services.bosco.agent.package.outPath");
    let nixpkgs = nix("builtins.head nodes.plain.config.nix.nixPath");
    let nixpkgs = nixpkgs.strip_prefix("nixpkgs=").unwrap();
    let modules = pull.fleet.path().join("bosco/nix/modules");
    for module in fs::read_dir(modules).unwrap().flatten() {
        let text = fs::read_to_string(module.path()).unwrap();
        fleet.write(Path::new("utils/bosco").join(module.file_name()), &text).unwrap();
    }
    let imports = "[ ./bosco/deployment.nix ./bosco/activation.nix ./bosco/host.nix ./bosco/agent.nix ]";
    let common = format!(
        "{{ pkgs, ... }}: {{
  imports = {imports};
  services.openssh.enable = true;
  networking.hosts.\"{}\" = [ \"{HUB}\" ];
  nix.nixPath = [ \"nixpkgs=${{builtins.path {{ path = pkgs.path; name = \"source\"; }}}}\" ];
  services.bosco.agent = {{ enable = true; package = {{ outPath = builtins.storePath \"{program}\"; }}; }};
  deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};
  environment.etc.greeting.source = ./greeting;
  system.stateVersion = \"26.05\";
}}\n",
        pull.hub().address()
    );
    fleet.write("utils/common.nix", &common).unwrap();
    fleet.write("utils/greeting", "one\n").unwrap();
    let plain = "{ imports = [ ./utils/common.nix ]; networking.hostName = \"plain\"; }";
    fleet.write("hosts/plain/configuration.nix", plain).unwrap();
    let flake = format!(
        "{{
  inputs.nixpkgs.url = \"path:{nixpkgs}\";
  inputs.news = {{ url = \"path:{}\"; flake = false; }};
  outputs = {{ nixpkgs, news, ... }}: {{
    nixosConfigurations.bento-machine = nixpkgs.lib.nixosSystem {{
      system = \"x86_64-linux\";
      modules = [ ./utils/common.nix {{
        networking.hostName = \"flake\";
        environment.etc.news.source = \"${{news}}/news\";
      }} ];
    }};
  }};
}}\n",
        news.display()
    );
    fleet.write("hosts/flake/flake.nix", &flake).unwrap();
    fleet.write("hosts/flake/SELF_UPDATE", "").unwrap();
    for host in [PLAIN, FLAKE] {
        symlink("../../utils/", fleet.path().join("hosts").join(host).join("utils")).unwrap();
    }
    fs::copy(pull.fleet.path().join("bosco.toml"), fleet.path().join("bosco.toml")).unwrap();
    fleet.commit().unwrap();
    fleet
}

/// `bosco release` of the tree. Gives its number.
#[track_caller]
fn release(pull: &Pull<'_>, tree: &Fleet<'_>) -> u64 {
    let key = pull.lab.operator().ssh_key();
    let args = ["release", "--json", "--sign-with", key.to_str().unwrap()];
    let said: Said = bosco(pull.lab.operator(), tree, &args).exits(0);
    let mut came = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let published = came.rfind(|event| event["event"] == "release");
    published.unwrap()["published"]["number"].as_u64().unwrap_or_else(|| panic!("{}\n{}", said.out, said.err))
}

#[test]
fn hosts_build_themselves_from_what_the_release_names() {
    let lab = Lab::up(&LabSpec::named([HUB, PLAIN, FLAKE])).unwrap();
    let pull = Pull::new(&lab);
    for host in [PLAIN, FLAKE] {
        let path = "nix.nixPath = [ \"nixpkgs=${builtins.path { path = pkgs.path; name = \"source\"; }}\" ];";
        pull.with_agent(host, path);
    }
    pull.start_hub();
    pull.enroll_agents();
    let [plain, flake] = [PLAIN, FLAKE].map(|name| lab.host(name).unwrap());
    let news = lab.operator().dir().join("news");
    for place in [news.clone(), on(flake, &news)] {
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("news"), "old\n").unwrap();
    }
    let tree = lay_out(&pull, &news);
    let lock =
        ["flake", "lock", &format!("path:{}", tree.path().join("hosts/flake").display())].map(str::to_owned);
    lab.operator().nix(lock).unwrap();
    tree.commit().unwrap();

    let first = release(&pull, &tree);
    for host in [PLAIN, FLAKE] {
        pull.until_at(host, first);
    }
    assert_eq!((greeting(plain), greeting(flake)), ("one\n".into(), "one\nold\n".into()));
    let config = pull.hub().root().join("var/lib/bosco-hub/hosts/plain/config");
    assert_eq!(fs::read_to_string(config.join("utils/greeting")).unwrap(), "one\n");
    assert!(!config.join("flake.nix").exists());

    // What they share reaches both.
    tree.write("utils/greeting", "two\n").unwrap();
    let second = release(&pull, &tree);
    for host in [PLAIN, FLAKE] {
        pull.until_at(host, second);
    }
    assert_eq!((greeting(plain), greeting(flake)), ("two\n".into(), "two\nold\n".into()));

    // What can be evaluated and not be built fails there, says why, and is over with the next release.
    let broken = "{ pkgs, ... }: { imports = [ ./utils/common.nix ]; networking.hostName = \"plain\";
        environment.etc.broken.source = pkgs.runCommand \"broken\" { } \"echo no such luck; exit 1\"; }";
    let mended = fs::read_to_string(tree.path().join("hosts/plain/configuration.nix")).unwrap();
    tree.write("hosts/plain/configuration.nix", broken).unwrap();
    let third = release(&pull, &tree);
    let stands = pull.until(PLAIN, "failing", |stands| stands["state"] == "failing");
    assert!(stands["reason"].as_str().unwrap().contains("broken"), "{stands}");
    pull.until(PLAIN, "reported", |_| pull.reports(PLAIN).first() == Some(&(third, "refused".to_owned())));
    pull.bosco(&["log", PLAIN, "--last", "1"]).exits(0).says("it could not be built").says("no such luck");
    assert_eq!(greeting(plain), "two\n", "it runs what it ran");
    pull.until_at(FLAKE, third);
    tree.write("hosts/plain/configuration.nix", &mended).unwrap();
    let fourth = release(&pull, &tree);
    pull.until_at(PLAIN, fourth);
    pull.until_at(FLAKE, fourth);

    // Newer inputs are taken where the directory allows it, by the same release, and it is told that nobody has asked.
    fs::write(on(flake, &news).join("news"), "new\n").unwrap();
    pull.bosco(&["trigger", FLAKE]).exits(0);
    let is_updated =
        |stands: &Value| stands["state"] == "up-to-date" && stands["reason"] == "it has updated itself";
    pull.until(FLAKE, "updated", is_updated);
    assert_eq!(greeting(flake), "two\nnew\n");
    assert_eq!(pull.stands(FLAKE)["release"], fourth);
    pull.bosco(&["log", FLAKE, "--last", "1"]).exits(0).says("by itself");

    // Without the marker nobody reboots a host; how its agent runs comes with the release too.
    let by_timer = |when: &str| {
        let text = format!(
            "{{ lib, ... }}: {{ imports = [ ./utils/common.nix ]; networking.hostName = \"plain\"; \
             services.bosco = {{ enable = true; agent.timer = \"{when}\"; }}; \
             systemd.timers.bosco-agent.timerConfig.RandomizedDelaySec = lib.mkForce 0; }}"
        );
        tree.write("hosts/plain/configuration.nix", &text).unwrap();
    };
    let before = boot(plain);
    by_timer("*:*:0/2");
    let fifth = release(&pull, &tree);
    let needs_it = |stands: &Value| stands["state"] == "reboot-needed" && stands["release"] == fifth;
    pull.until(PLAIN, "reboot needed", needs_it);
    assert_eq!(boot(plain), before);

    // The next one comes by the timer alone. With the marker the host reboots; there is no next time of the timer that soon,
    // so that it is reached then, the agent proves at the boot.
    by_timer("2099-01-01");
    tree.write("utils/greeting", "three\n").unwrap();
    tree.write("hosts/plain/REBOOT", "").unwrap();
    let sixth = release(&pull, &tree);
    pull.until_at(PLAIN, sixth);
    assert_ne!(boot(plain), before, "it has not rebooted");
    assert_eq!(greeting(plain), "three\n");
    pull.bosco(&["log", PLAIN, "--last", "1"]).exits(0).says("committed");
    let script = "systemctl is-active bosco-agent.timer; systemctl is-active bosco-agent.service || :";
    assert_eq!(plain.at_keyboard(script).unwrap(), "active\ninactive\n");
}

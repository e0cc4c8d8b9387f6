//! A fleet that is written for deploy-rs is deployed as it is, with all of its profiles, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::{bosco, json, state};
use testbed::fleet::{Fleet, sample};
use testbed::{Host, Lab, LabSpec, Operator};

/// What the fleet's profiles are to be.
fn versions(fleet: &Fleet<'_>, system: &str, home: &str, tool: &str) {
    let text = format!("{{ system = \"{system}\"; home = \"{home}\"; tool = \"{tool}\"; }}");
    fleet.write("versions.nix", &text).unwrap();
}

/// Where the fleet's profiles write down that they were activated.
fn prepare(host: &Host) {
    host.ssh_ok("install -m 666 /dev/null /srv/activations").unwrap();
}

/// What was activated since it was last asked.
fn activations(host: &Host) -> Vec<String> {
    let said = host.ssh_ok("cat /srv/activations; : > /srv/activations").unwrap();
    said.lines().map(str::to_owned).collect()
}

/// Waits until the activation of a profile has said this of itself.
fn until_said(host: &Host, text: &str) {
    host.ssh_ok(&until(&format!("! grep -q {text} /srv/activations || exit 0"))).unwrap();
}

/// A script that waits until a line of it ends it.
fn until(line: &str) -> String {
    format!("for try in $(seq 600); do {line}; sleep 0.1; done; exit 1")
}

/// All that is to be seen of a host's profiles: what runs, what they name, with their owners, and the generations of each.
fn profiles(host: &Host) -> String {
    host.ssh_ok(
        "cat /run/current-system/etc/version; echo; readlink -f /run/current-system
         for link in /nix/var/nix/profiles/system /nix/var/nix/profiles/per-user/root/tool \
             ~ada/.local/state/nix/profiles/home; do
           for one in $link $link-*-link; do echo \"$one $(stat -c %U $one) $(readlink $one)\"; done
         done; ls /nix/var/nix/gcroots/bosco; cat /boot/loader/loader.conf",
    )
    .unwrap()
}

fn apply(operator: &Operator, fleet: &Fleet<'_>, code: i32) -> common::Said {
    bosco(operator, fleet, &["apply", "host1"]).exits(code)
}

#[test]
fn a_hosts_profiles_are_deployed_together_and_taken_back_together() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    prepare(host);
    apply(operator, &fleet, 0).says("host1");
    let line = |name: &str, version: &str, user: &str, home: &str, place: &str| {
        format!("{name} {version} of {user} in {home}, {place}, DRY_ACTIVATE=0 BOOT=0")
    };
    let tool =
        |version: &str| line("tool", version, "root", "/root", "/nix/var/nix/profiles/per-user/root/tool");
    let home =
        |version: &str| line("home", version, "ada", "/home/ada", "/home/ada/.local/state/nix/profiles/home");
    assert_eq!(activations(host), [tool("1"), home("1")], "the order is `profilesOrder`, then the names'");
    let seen = profiles(host);
    assert!(seen.contains("profiles/home ada home-1-link"), "{seen}");
    assert!(seen.contains("profiles/per-user/root/tool root tool-1-link"), "{seen}");
    assert!(
        seen.contains("-activatable-nixos-system-host1"),
        "the profile names what deploy-rs's would: {seen}"
    );
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
    apply(operator, &fleet, 0).says("up to date");
    assert!(activations(host).is_empty());

    // Another one for one of them.
    versions(&fleet, "1", "2", "1");
    assert_eq!(state(operator, &fleet, "host1"), "pending");
    apply(operator, &fleet, 0);
    assert_eq!(activations(host), [tool("1"), home("2")]);
    let listed = json(operator, &fleet, &["generations", "host1"]);
    let listed = listed[0]["generations"].as_array().unwrap();
    let of_home = listed.iter().filter(|one| one["profile"] == "ada/home");
    let is: Vec<_> = of_home.map(|one| (one["number"].as_u64().unwrap(), one["is"].to_string())).collect();
    assert_eq!(is, [(1, "[]".to_owned()), (2, "[\"default\"]".to_owned())], "{listed:?}");

    // The last of all can't be activated: everything is as it was, and was activated so.
    let before = profiles(host);
    versions(&fleet, "2", "broken", "2");
    let said = apply(operator, &fleet, 4);
    said.says("ada's profile home failed").says("deploy-rs-activate` ended with 1");
    let expected = [tool("2"), home("broken"), home("2"), tool("1")];
    assert_eq!(activations(host), expected, "they go back in the other order");
    assert_eq!(profiles(host), before);
    assert_eq!(state(operator, &fleet, "host1"), "reverted");
    apply(operator, &fleet, 4).says("quarantine");
    // The same system with another profile is another thing.
    versions(&fleet, "2", "3", "2");
    apply(operator, &fleet, 0);
    assert_eq!(activations(host), [tool("2"), home("3")]);

    // One of them goes back by itself.
    bosco(operator, &fleet, &["rollback", "host1", "--profile", "home"]).exits(0);
    assert_eq!(activations(host), [home("2")]);
    assert_eq!(state(operator, &fleet, "host1"), "pending");
    bosco(operator, &fleet, &["rollback", "host1", "--profile", "house"])
        .exits(4)
        .says("root/tool, ada/home");

    // Who looks what would be done changes nothing; who tries it sets no profile.
    let before = profiles(host);
    bosco(operator, &fleet, &["apply", "host1", "--goal", "dry-activate"])
        .exits(0)
        .says("profile home of ada");
    assert_eq!(activations(host), [] as [&str; 0]);
    assert_eq!(profiles(host), before);
    bosco(operator, &fleet, &["apply", "host1", "--goal", "test"]).exits(0);
    let tried = activations(host);
    assert!(tried[1].starts_with("home 3 of ada in /home/ada, /nix/store/"), "{tried:?}");
    assert_eq!(profiles(host), before);

    // Who wants it from the next boot on has the profiles set, and their activation told.
    bosco(operator, &fleet, &["apply", "host1", "--goal", "boot"]).exits(0);
    let for_the_boot = [tool("2"), home("3")].map(|line| line.replace("BOOT=0", "BOOT=1"));
    assert_eq!(activations(host), for_the_boot);
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

#[test]
fn a_wrapped_system_that_takes_a_boot_is_proven_by_it_and_its_profiles_with_it() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    for module in ["activation", "host"] {
        let from = common::repository().join(format!("nix/modules/{module}.nix"));
        fleet.write(format!("{module}.nix"), &std::fs::read_to_string(from).unwrap()).unwrap();
    }
    let machine = fleet.path().join("machine.nix");
    let machine = std::fs::read_to_string(machine).unwrap();
    let write = |more: &str| {
        let modules = "imports = [ ./activation.nix ./host.nix ]; services.bosco.enable = true;";
        fleet.write("machine.nix", &machine.replacen('{', &format!("{{ {modules} {more}"), 1)).unwrap();
    };
    prepare(host);
    write("");
    apply(operator, &fleet, 0);
    bosco(operator, &fleet, &["reboot", "host1"]).exits(0);
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
    activations(host);
    let before = profiles(host);

    write("boot.initrd.other = true;");
    versions(&fleet, "2", "broken", "2");
    bosco(operator, &fleet, &["apply", "host1", "--reboot"]).exits(4).says("profile home failed");
    assert_eq!(profiles(host), before);
    assert_eq!(activations(host).len(), 4, "all of them, and all of them back");
    versions(&fleet, "2", "2", "2");
    bosco(operator, &fleet, &["apply", "host1", "--reboot", "--verbose"])
        .exits(0)
        .says("preparing its boot entry");
    assert_eq!(activations(host).len(), 2);
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
    // Its system alone goes back.
    bosco(operator, &fleet, &["rollback", "host1"]).exits(0);
    assert!(activations(host).is_empty());
    assert!(profiles(host).starts_with("1\n"));
}

#[test]
fn a_wrapped_system_gets_the_secrets_that_come_with_it_from_its_first_deploy_on() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    fleet.add_bosco().unwrap();
    let machine = std::fs::read_to_string(fleet.path().join("machine.nix")).unwrap();
    let own = |more: &str| {
        let text = format!(
            "{{ config, ... }}: let modules = ((import ./bosco/flake.nix).outputs {{ }}).nixosModules; in {{\n\
             imports = [ modules.default modules.sops {machine} ]; sops.defaultSopsFile = ./web.yaml;\n\
             deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};\n\
             sops.secrets.token = {{ }}; {more} }}\n"
        );
        fleet.write("machine.nix", &text).unwrap();
    };
    let encrypt = |token: &str| {
        let text = testbed::sops::encrypted(&[("token", token)], &[&host.public_key().unwrap()]).unwrap();
        fleet.write("web.yaml", &text).unwrap();
    };
    let has = |token: &str| {
        host.ssh_ok("systemctl is-active token-key.service").unwrap();
        assert_eq!(host.ssh_ok("cat /run/secrets/token").unwrap(), token);
    };
    prepare(host);
    own("");
    encrypt("token-in-clear");
    apply(operator, &fleet, 0);
    has("token-in-clear");
    // Another system with other secrets, in one switch.
    own("environment.etc.other.text = \"2\";");
    encrypt("token-2-in-clear");
    apply(operator, &fleet, 0);
    has("token-2-in-clear");
    apply(operator, &fleet, 0).says("up to date");
    // One that does not hold goes back with its secrets, also to what was only tested.
    own("environment.etc.other.text = \"3\";");
    encrypt("token-3-in-clear");
    bosco(operator, &fleet, &["apply", "host1", "--goal", "test"]).exits(0);
    has("token-3-in-clear");
    let tested = host.ssh_ok("readlink -f /run/current-system").unwrap();
    own("deployment.healthChecks.no = { command = \"false\"; retries = 0; };");
    encrypt("token-4-in-clear");
    apply(operator, &fleet, 4).says("reverted: ");
    assert_eq!(host.ssh_ok("readlink -f /run/current-system").unwrap(), tested);
    has("token-3-in-clear");
    host.power_cut(testbed::Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_ssh(std::time::Duration::from_secs(120)).unwrap();
    has("token-2-in-clear");
}

#[test]
fn a_host_that_gets_profiles_only_keeps_its_system() {
    let lab = Lab::up(&LabSpec::named(["host2"])).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host2").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    prepare(host);
    host.ssh_ok("useradd --create-home --groups nix-users ada").unwrap();
    let stands = common::stands(host);
    let apply = |code| bosco(operator, &fleet, &["apply", "@homes"]).exits(code);
    apply(0);
    assert_eq!(activations(host).len(), 1);
    assert_eq!(state(operator, &fleet, "host2"), "up-to-date");
    versions(&fleet, "1", "broken", "1");
    apply(4);
    assert_eq!(activations(host).len(), 2, "the old one is activated again");
    assert_eq!(state(operator, &fleet, "host2"), "reverted");
    versions(&fleet, "1", "2", "1");
    apply(0);
    apply(0).says("up to date");
    assert_eq!(common::stands(host), stands, "nothing of its system was touched");
    bosco(operator, &fleet, &["generations", "host2"]).exits(0).says("ada/home").does_not_say("system");
    bosco(operator, &fleet, &["rollback", "host2"]).exits(4).says("--profile ada/home");
    bosco(operator, &fleet, &["rollback", "host2", "--profile", "ada/home"]).exits(0);
}

#[test]
fn secrets_alone_leave_profiles_as_they_are_and_what_gets_profiles_only_has_none() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let other = lab.host("host2").unwrap();
    let fleet = sample(operator, "deploy").unwrap();
    other.ssh_ok("useradd --create-home --groups nix-users ada").unwrap();
    prepare(host);
    prepare(other);
    let machine = std::fs::read_to_string(fleet.path().join("machine.nix")).unwrap();
    let key = |text: &str| {
        let key = format!(
            "imports = [ ({{ lib, ... }}: {{ options.deployment = lib.mkOption {{ default = {{ }}; }}; \
             config.deployment.keys.token = {{ name = \"token\"; text = \"{text}\"; destDir = \"/run/keys\"; user = \"root\"; \
             group = \"root\"; permissions = \"0600\"; uploadAt = \"pre-activation\"; }}; }}) ];"
        );
        fleet.write("machine.nix", &machine.replacen('{', &format!("{{ {key}"), 1)).unwrap();
    };
    key("one");
    let said = bosco(operator, &fleet, &["apply", "*", "--keep-result"]).exits(0);
    said.says("its secrets are left out").says("host1");
    bosco(operator, &fleet, &["apply", "host2"]).exits(0).says("up to date");
    assert_eq!((activations(host).len(), activations(other).len()), (2, 1));

    versions(&fleet, "1", "2", "1");
    key("two");
    let said = bosco(operator, &fleet, &["diff"]).exits(0);
    said.says("secrets: others").says("  profile ada/home: /nix/store/").does_not_say("files of the system");
    let before = profiles(host);
    bosco(operator, &fleet, &["apply", "host1", "--goal", "keys", "--no-keys"]).exits(0).says("up to date");
    bosco(operator, &fleet, &["apply", "host1", "--goal", "keys"]).exits(0).says("its secrets are committed");
    assert!(activations(host).is_empty());
    assert_eq!(profiles(host), before);
    bosco(operator, &fleet, &["apply", "host2", "--goal", "keys"]).exits(4).says("profiles only");
    bosco(operator, &fleet, &["diff", "host1"]).exits(0).does_not_say("secrets: others");

    // A link is kept also of a host that has nothing to do.
    let link = fleet.path().join(".gcroots/node-host1");
    std::fs::remove_file(&link).unwrap();
    apply(operator, &fleet, 0);
    bosco(operator, &fleet, &["apply", "host1", "--keep-result"]).exits(0).says("up to date");
    assert!(std::fs::read_link(&link).unwrap().to_string_lossy().contains("nixos-system-host1"));
}

#[test]
fn a_profile_is_where_its_node_says_and_its_host_keeps_to_the_nodes_time() {
    let lab = Lab::up(&LabSpec::named(["host2"])).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host2").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    let text = std::fs::read_to_string(fleet.path().join("flake.nix")).unwrap();
    let text = text
        .replace("groups = [", "confirmTimeout = 4; activationTimeout = 15; groups = [")
        .replace("profiles.home = {", "profiles.home = { profilePath = \"/srv/ada/home\";");
    fleet.write("flake.nix", &text).unwrap();
    prepare(host);
    host.ssh_ok("useradd --create-home --groups nix-users ada && install -d -o ada /srv/ada").unwrap();
    let apply = || bosco(operator, &fleet, &["apply", "host2"]);
    let there = || host.ssh_ok("stat -c %U /srv/ada/home; cat /srv/ada/home/share/home").unwrap();
    let is =
        |version: &str| format!("home {version} of ada in /home/ada, /srv/ada/home, DRY_ACTIVATE=0 BOOT=0");

    apply().exits(0);
    assert_eq!(activations(host), [is("1")]);
    assert_eq!(there(), "ada\n1");
    host.ssh_ok("! ls ~ada/.local/state/nix/profiles/home").unwrap();
    versions(&fleet, "1", "2", "1");
    apply().exits(0);
    assert_eq!(there(), "ada\n2");
    assert_eq!(state(operator, &fleet, "host2"), "up-to-date");
    bosco(operator, &fleet, &["generations", "host2"]).exits(0).says("ada/home");
    bosco(operator, &fleet, &["rollback", "host2", "--profile", "home"]).exits(0);
    assert_eq!(there(), "ada\n1");
    activations(host);

    // One that hangs is ended when its node's time is over.
    versions(&fleet, "1", "hangs", "1");
    let started = Instant::now();
    apply().exits(4);
    let took = started.elapsed();
    assert!((8..60).contains(&took.as_secs()), "it was given {took:?}");
    assert_eq!(activations(host), [is("hangs"), is("1")]);
    assert_eq!(there(), "ada\n1");

    // One behind which the host can't be reached is taken back when its node's time for that is over.
    versions(&fleet, "1", "waits", "1");
    std::thread::scope(|scope| {
        let applying = scope.spawn(apply);
        until_said(host, "waits");
        host.cut().unwrap();
        std::fs::write(host.root().join("srv/go"), "").unwrap();
        let started = Instant::now();
        host.at_keyboard(&until("systemctl is-active --quiet bosco-activation || exit 0")).unwrap();
        let took = started.elapsed();
        assert!((4..60).contains(&took.as_secs()), "it was given {took:?}");
        host.heal().unwrap();
        applying.join().unwrap().exits(4);
    });
    assert_eq!(activations(host), [is("waits"), is("1")]);
    assert_eq!(there(), "ada\n1");
}

#[test]
fn a_power_cut_while_profiles_are_activated_leaves_all_of_them_old() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(512)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    prepare(host);
    apply(operator, &fleet, 0);
    activations(host);
    let before = profiles(host);
    versions(&fleet, "2", "hangs", "2");
    std::thread::scope(|scope| {
        let applying = scope.spawn(|| bosco(operator, &fleet, &["apply", "host1"]));
        until_said(host, "hangs");
        assert!(profiles(host).contains("tool-2-link"), "the first of them is new");
        host.power_cut(testbed::Unsynced::Lost).unwrap();
        host.boot().unwrap();
        let said = applying.join().unwrap().exits(4);
        said.says("interrupted while activating its profiles");
    });
    assert_eq!(profiles(host), before);
    assert_eq!(state(operator, &fleet, "host1"), "inconclusive");
}

/// deploy-rs's own programs, as `cargo xtask bench push` builds them.
fn programs() -> PathBuf {
    let found = std::fs::read_dir(testbed::cache::dir()).unwrap().flatten().map(|entry| entry.path());
    let mut found =
        found.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("deploy-rs-"));
    found.next().expect("`cargo xtask bench push` builds deploy-rs").join("bin")
}

/// `deploy .` in the fleet, by deploy-rs itself.
fn deploy(operator: &Operator, fleet: &Fleet<'_>) {
    let enter = common::repository().join("xtask/src/bench/enter.sh");
    let mut tool = operator.command("unshare");
    tool.args(["--mount", "--propagation", "slave", "sh"]).arg(enter);
    tool.arg(operator.dir().join("root")).arg(operator.store().join("nix")).arg(programs().join("deploy"));
    tool.args(["--skip-checks", ".#host1"]).current_dir(fleet.path());
    common::Said::of(&tool.output().unwrap()).exits(0);
}

#[test]
#[ignore = "needs deploy-rs, which takes minutes to build: docs/testing.md"]
fn bosco_and_deploy_rs_take_over_from_each_other() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let fleet = sample(operator, "deploy").unwrap();
    let flake = operator.dir().join("deploy-rs");
    std::fs::create_dir(&flake).unwrap();
    let stand_in = common::repository().join("testbed/micronix/deploy-rs/flake.nix");
    std::fs::copy(stand_in, flake.join("flake.nix")).unwrap();
    std::fs::copy(programs().join("activate"), flake.join("activate")).unwrap();
    let text = std::fs::read_to_string(fleet.path().join("flake.nix")).unwrap();
    let text = text.replace("url = \"deploy-rs\"", &format!("url = \"path:{}\"", flake.display())).replace(
        "user = \"root\";",
        &format!("user = \"root\"; sshOpts = [ \"-F\" \"{}\" ];", operator.ssh_config().display()),
    );
    fleet.write("flake.nix", &text).unwrap();
    prepare(host);
    for (round, by_bosco) in [("1", false), ("2", true), ("3", false), ("4", true), ("5", true), ("6", false)]
    {
        versions(&fleet, round, round, round);
        fleet.commit().unwrap();
        if by_bosco {
            apply(operator, &fleet, 0);
        } else {
            deploy(operator, &fleet);
        }
        let activated = activations(host);
        assert_eq!(activated.len(), 2, "{activated:?}");
        let seen = profiles(host);
        assert!(seen.starts_with(&format!("{round}\n")), "{seen}");
        // The first one of the system is what was installed.
        let system = round.parse::<u32>().unwrap() + 1;
        for link in
            [format!("system-{system}-link"), format!("tool-{round}-link"), format!("home-{round}-link")]
        {
            assert!(seen.contains(&format!(" {link}\n")), "{round}, by bosco: {by_bosco}: {link} in {seen}");
        }
        assert_eq!(state(operator, &fleet, "host1"), "up-to-date", "by bosco: {by_bosco}");
        apply(operator, &fleet, 0).says("up to date");
    }
    // What one has left, the other goes back to.
    versions(&fleet, "7", "broken", "7");
    let before = profiles(host);
    apply(operator, &fleet, 4);
    assert_eq!(profiles(host), before);
}

/// A flake for deploy-rs, around what a test says of it.
const FLAKE: [&str; 2] = [
    r#"{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.deploy-rs.url = "deploy-rs";
  outputs = { self, nixpkgs, deploy-rs }: let
    pkgs = nixpkgs.legacyPackages.x86_64-linux;
    path = deploy-rs.lib.x86_64-linux.activate.noop (pkgs.writeTextDir "x" "x");
  in {
    nixosConfigurations.web = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ { options.deployment = nixpkgs.lib.mkOption { }; config = {
        deployment.tags = [ "front" ]; networking.hostName = "web"; system.stateVersion = "26.05";
      }; } ];
    };
"#,
    "};\n}",
];

#[test]
fn a_nodes_options_mean_what_they_mean_to_deploy_rs() {
    let operator = Operator::alone().unwrap();
    let fleet = testbed::fleet::create(&operator, "options").unwrap();
    let deploy = r#"
      deploy = { sshUser = "admin"; user = "root"; sshOpts = [ "-C" ]; confirmTimeout = 7; groups = "all";
        nodes.web = { hostname = "web.example.org"; sshOpts = [ "-p" "2222" ]; sudo = "doas -u"; remoteBuild = true;
          profilesOrder = [ "z" "system" ];
          profiles.a = { inherit path; user = "ada"; magicRollback = false; };
          profiles.z = { inherit path; profilePath = "/srv/z"; };
          profiles.system = { path = deploy-rs.lib.x86_64-linux.activate.nixos self.nixosConfigurations.web;
            profilePath = "/srv/system"; sshOpts = [ "-4" ]; confirmTimeout = 9; groups = [ "front" "own" ]; };
        };
        nodes.bare = { hostname = "bare"; sshUser = null; user = null; profiles.home = { inherit path; }; };
        nodes.empty = { hostname = "empty"; profiles = { }; };
      };"#;
    fleet.write("flake.nix", &FLAKE.join(deploy)).unwrap();
    let hosts = |code| {
        let mut bosco = common::command(&operator, &fleet, &["hosts", "--json"]);
        let said = common::Said::of(&bosco.env("USER", "bob").output().unwrap()).exits(code);
        serde_json::from_str::<serde_json::Value>(&said.out).unwrap()
    };
    let all = hosts(3);
    let of = |name: &str| all.as_array().unwrap().iter().find(|host| host["name"] == name).unwrap();
    let (bare, web) = (of("bare"), of("web"));
    assert_eq!(web["target"]["sshOptions"], serde_json::json!(["-4", "-p", "2222", "-C"]));
    assert_eq!(web["target"]["host"], "web.example.org");
    assert_eq!(web["target"]["user"], "admin");
    assert_eq!(web["target"]["privilege"], serde_json::json!(["doas", "-u", "root"]));
    assert_eq!(web["tags"], serde_json::json!(["all", "front", "own"]));
    assert_eq!(web["limits"], serde_json::json!({ "activation": null, "confirm": 9 }));
    assert_eq!(web["buildOnTarget"], true);
    let ignored = serde_json::json!(["profiles.system.profilePath", "magicRollback = false"]);
    assert_eq!(web["ignored"], ignored);
    let profiles = serde_json::json!([
        { "name": "z", "user": "root", "place": "/srv/z" },
        { "name": "a", "user": "ada" },
    ]);
    assert_eq!((&web["profiles"], &web["profilesOnly"]), (&profiles, &serde_json::json!(false)));
    assert_eq!(bare["profiles"][0]["user"], "root", "`null` is as good as nothing");
    assert_eq!(bare["profilesOnly"], true);
    assert!(of("empty")["error"].as_str().unwrap().contains("`deploy.nodes.empty` has no profiles"));
    bosco(&operator, &fleet, &["eval", "nodes.web.config.networking.hostName"]).exits(0).says("\"web\"");

    let deploy = r#"deploy = { interactiveSudo = true; autoRollback = false; activationTimeout = 70; tempPath = "/x";
        nodes.web = { hostname = "web"; fastConnection = true; profiles.home = { inherit path; }; }; };"#;
    fleet.write("flake.nix", &FLAKE.join(deploy)).unwrap();
    let host = hosts(0);
    assert_eq!(host[0]["ignored"], serde_json::json!(["autoRollback = false"]));
    assert_eq!(host[0]["limits"], serde_json::json!({ "activation": 70, "confirm": null }));
    assert_eq!(host[0]["profiles"][0]["user"], "bob", "who asks");
    assert_eq!(host[0]["target"]["user"], serde_json::Value::Null, "that is for ssh to say");

    for (wrong, says) in [
        ("profilesOrder = [ \"b\" ]; profiles.a = { inherit path; };", "which is none of its profiles"),
        ("profiles.a.path = \"/nix/store/x\";", "is no derivation"),
        (
            "profiles.a = { inherit path; profilePath = \"/nix/var/nix/profiles/system\"; };",
            "not the system's",
        ),
        (
            "profiles.a = { inherit path; profilePath = \"/srv/a\"; }; profiles.b = { inherit path; profilePath = \"/srv/a\"; };",
            "has two profiles at /srv/a",
        ),
    ] {
        let deploy = format!("deploy.nodes.web = {{ hostname = \"web\"; {wrong} }};");
        fleet.write("flake.nix", &FLAKE.join(&deploy)).unwrap();
        bosco(&operator, &fleet, &["build", "web"]).exits(3).says(says);
    }
}

//! Profiles beside the system, and alone, of hosts that fetch what they should run.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::pull::{HUB, Pull};
use serde_json::Value;
use testbed::{Host, Lab, LabSpec};

/// deploy-rs's words around the fleet that every test of pull has. The tablet's system is somebody else's, once it is said so.
const DEPLOY: &str = r#"deploy = {
      sshUser = "root";
      user = "root";
      nodes = nixpkgs.lib.genAttrs [ "hub" "laptop" "tablet" ] (name: {
        hostname = name;
        profilesOrder = nixpkgs.lib.optionals (name == "laptop") [ "system" "tool" ];
        profiles =
          (if name == "tablet" && versions.alone then { } else {
            system.path = activate.nixos self.nixosConfigurations.${name};
          })
          // (if name == "laptop" then { tool.path = app "tool"; } else { })
          // (if name == "hub" then { } else { home = { user = "ada"; path = app "home"; }; });
      });
    };
    nixosConfigurations"#;

/// What the flake's outputs begin with.
const LET: &str = r#"{ self, nixpkgs, deploy-rs, program, ... }: let
    versions = import ./versions.nix;
    inherit (deploy-rs.lib.x86_64-linux) activate;
    pkgs = nixpkgs.legacyPackages.x86_64-linux;
    # A program that tells, each time, what it was started with.
    app = name: activate.custom (pkgs.writeTextDir "share/${name}" versions.${name}) ''
      echo "${name} $(cat $PROFILE/share/${name}) of $(id -un)" >> /srv/activations
      ! grep -q broken $PROFILE/share/${name}
    '';
  in {"#;

/// A fleet whose hosts have profiles.
struct Home<'a> {
    pull: Pull<'a>,
}

impl<'a> Home<'a> {
    fn new(lab: &'a Lab) -> Self {
        let pull = Pull::new(lab);
        let file = pull.fleet.path().join("flake.nix");
        let flake = std::fs::read_to_string(file).unwrap();
        let flake = flake
            .replace(
                "inputs.nixpkgs.url = \"nixpkgs\";",
                "inputs.nixpkgs.url = \"nixpkgs\"; inputs.deploy-rs.url = \"deploy-rs\";",
            )
            .replace("{ nixpkgs, program, ... }: {", LET)
            .replace("nixosConfigurations", DEPLOY);
        pull.fleet.write("flake.nix", &flake).unwrap();
        let home = Self { pull };
        home.system("1");
        home.versions("1", "1", false);
        home
    }

    /// What the profiles are to be.
    fn versions(&self, home: &str, tool: &str, alone: bool) {
        let text = format!("{{ home = \"{home}\"; tool = \"{tool}\"; alone = {alone}; }}");
        self.pull.fleet.write("versions.nix", &text).unwrap();
    }

    /// What the systems are to be.
    fn system(&self, version: &str) {
        for host in ["laptop", "tablet"] {
            // The test machines' Nix is Debian's, which serves that group.
            self.pull.with_agent(
                host,
                &format!(
                    "environment.etc.version.text = \"{version}\"; users.groups.nix-users = {{ }};
                     users.users.ada = {{ isNormalUser = true; extraGroups = [ \"nix-users\" ]; }};"
                ),
            );
        }
    }

    fn release(&self) -> common::Said {
        let key = self.pull.lab.operator().ssh_key();
        self.pull.bosco(&["release", "--sign-with", key.to_str().unwrap()]).exits(0)
    }

    /// Waits until a host has come to the newest release.
    #[track_caller]
    fn arrives(&self, host: &str) -> u64 {
        let number = self.newest();
        self.pull.until_at(host, number);
        number
    }

    fn newest(&self) -> u64 {
        let releases = self.pull.json(&["releases"]);
        releases.as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).max().unwrap()
    }

    /// Waits until a host has taken the newest release back.
    #[track_caller]
    fn goes_back(&self, host: &str) -> Value {
        let number = self.newest();
        let is_back = |stands: &Value| {
            ["reverted", "quarantined"].contains(&stands["state"].as_str().unwrap_or_default())
        };
        let stands = self.pull.until(host, "taken back", is_back);
        assert_eq!(self.pull.reports(host)[0], (number, "reverted".to_owned()));
        stands
    }
}

/// What was activated since it was last asked.
fn activations(host: &Host) -> Vec<String> {
    let said = host.ssh_ok("cat /srv/activations; : > /srv/activations").unwrap();
    said.lines().map(str::to_owned).collect()
}

/// What runs, and what the profiles name, with their owners and the generations of each.
fn profiles(host: &Host) -> String {
    host.ssh_ok(
        "cat /etc/version; echo; readlink -f /run/current-system
         for link in /nix/var/nix/profiles/system /nix/var/nix/profiles/per-user/root/tool \
             ~ada/.local/state/nix/profiles/home; do
           for one in $link $link-*-link; do
             [ ! -L $one ] || echo \"$one $(stat -c %U $one) $(readlink $one)\"
           done
         done; cat /boot/loader/loader.conf",
    )
    .unwrap()
}

#[test]
fn a_release_brings_profiles_with_the_system_or_alone_and_takes_all_back_together() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop", "tablet"])).unwrap();
    let home = Home::new(&lab);
    let (laptop, tablet) = (lab.host("laptop").unwrap(), lab.host("tablet").unwrap());
    for host in [laptop, tablet] {
        host.ssh_ok("install -m 666 /dev/null /srv/activations").unwrap();
    }
    home.pull.start_hub();
    home.pull.enroll_agents();

    // What was pushed is what is released first.
    home.release().says("laptop: new in the fleet");
    for host in ["laptop", "tablet"] {
        home.arrives(host);
    }
    for host in [laptop, tablet] {
        activations(host);
    }
    let tool = |version: &str| format!("tool {version} of root");
    let of_ada = |version: &str| format!("home {version} of ada");

    // All of it is new; and the tablet's system is left alone from here on.
    home.system("2");
    home.versions("2", "2", true);
    let before = common::stands(tablet);
    home.release().says("laptop: system, profiles").says("tablet: system, profiles");
    home.arrives("laptop");
    assert_eq!(activations(laptop), [tool("2"), of_ada("2")]);
    let seen = profiles(laptop);
    assert!(seen.starts_with("2\n"), "{seen}");
    assert!(seen.contains("/home ada home-2-link"), "{seen}");
    assert!(seen.contains("/tool root tool-2-link"), "{seen}");
    home.arrives("tablet");
    assert_eq!(activations(tablet), [of_ada("2")]);
    assert_eq!(common::stands(tablet), before, "nothing of its system was touched");
    home.release().says("nothing has changed since release");

    // Only a profile is new.
    let system = common::toplevel_of(laptop);
    home.versions("3", "2", true);
    home.release().says("laptop: profiles").says("tablet: profiles");
    let number = home.arrives("laptop");
    assert_eq!(activations(laptop), [tool("2"), of_ada("3")]);
    assert_eq!(common::toplevel_of(laptop), system);
    home.arrives("tablet");
    assert_eq!(activations(tablet), [of_ada("3")]);
    home.pull
        .bosco(&["diff", &(number - 1).to_string(), &number.to_string()])
        .exits(0)
        .says("laptop: profiles");
    // What a user's profile names is kept.
    laptop.ssh_ok("nix-collect-garbage >/dev/null 2>&1; su ada -c 'cat ~/.local/state/nix/profiles/home/share/home'").unwrap();

    // The last of all can't be activated: everything is as it was, and is not tried again.
    let before = profiles(laptop);
    home.system("3");
    home.versions("broken", "3", true);
    home.release();
    let stands = home.goes_back("laptop");
    assert!(stands["reason"].as_str().unwrap().contains("profile home"), "{stands}");
    assert_eq!(activations(laptop), [tool("3"), of_ada("broken"), of_ada("3"), tool("2")]);
    assert_eq!(profiles(laptop), before);
    home.goes_back("tablet");
    assert_eq!(activations(tablet), [of_ada("broken"), of_ada("3")]);
    home.pull.bosco(&["log", "laptop", "--last", "1"]).exits(0).says("ada's profile home failed");
    laptop.ssh_ok("systemctl restart bosco-agent").unwrap();
    home.pull.until_says("laptop", "it has failed here, and is not tried again");
    assert!(activations(laptop).is_empty());

    // The same system with another profile is another thing.
    home.versions("4", "3", true);
    home.release().says("laptop: profiles");
    home.arrives("laptop");
    assert_eq!(activations(laptop), [tool("3"), of_ada("4")]);
    home.arrives("tablet");
    activations(tablet);

    // What somebody brings one profile to by hand holds the host, until that is let go.
    home.pull.bosco(&["rollback", "laptop", "--profile", "home"]).exits(0);
    assert_eq!(activations(laptop), [of_ada("3")]);
    home.pull.until("laptop", "held", |stands| stands["state"] == "held");
    home.release().says("laptop stays at what was pushed to it");
    home.pull.bosco(&["resume", "laptop"]).exits(0);
    home.arrives("laptop");
    assert_eq!(activations(laptop), [tool("3"), of_ada("4")]);

    // The hub may build all of it.
    let file = home.pull.fleet.path().join("bosco.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\n[operators", "builds = true\n\n[operators")).unwrap();
    home.pull.bosco(&["apply", "--on", HUB]).exits(0);
    home.versions("5", "3", true);
    home.release().says("laptop: profiles").says("tablet: profiles");
    home.arrives("laptop");
    home.arrives("tablet");
    assert_eq!(activations(laptop), [tool("3"), of_ada("5")]);
    let runs = laptop.ssh_ok("readlink -f ~ada/.local/state/nix/profiles/home").unwrap();
    let here = lab.operator().command("nix-store").args(["--check-validity", runs.trim()]).output().unwrap();
    assert!(!here.status.success(), "the operator's own Nix has built {runs}");
}

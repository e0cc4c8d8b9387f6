//! Secrets on real machines: they are there before what needs them, in memory only, all of them or those from before; also
//! after a reboot that nobody looks at.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::time::Duration;

use common::plaintext::{Watch, kept_on};
use common::{Said, bosco, fleet_of_web, state};
use testbed::fleet::{Fleet, create};
use testbed::sops::encrypted;
use testbed::{Host, Lab, LabSpec, Operator, Unsynced};

/// Far more than a boot takes.
const LIMIT: Duration = Duration::from_secs(120);

/// A fleet of one host with bosco's modules, and what it says.
struct Web<'a> {
    operator: &'a Operator,
    host: &'a Host,
    fleet: Fleet<'a>,
}

impl<'a> Web<'a> {
    fn new(lab: &'a Lab) -> Self {
        let (operator, host) = (lab.operator(), lab.host("web").unwrap());
        let fleet = fleet_of_web(operator);
        Self { operator, host, fleet }
    }

    fn own(&self, options: &str) {
        let text = format!(
            "let modules = ((import ./bosco/flake.nix).outputs {{ }}).nixosModules; in\n\
             {{ pkgs, lib, config, ... }}: {{ imports = [ modules.default modules.sops ];\n\
             services.openssh.enable = true; networking.hostName = \"web\"; system.stateVersion = \"26.05\";\n\
             deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};\n{options}\n}}\n"
        );
        self.fleet.write("web.nix", &text).unwrap();
    }

    /// Encrypts values to the host.
    fn encrypt(&self, file: &str, values: &[(&str, &str)]) {
        let key = self.host.public_key().unwrap();
        self.fleet.write(file, &encrypted(values, &[&key]).unwrap()).unwrap();
    }

    fn bosco(&self, words: &[&str]) -> Said {
        bosco(self.operator, &self.fleet, words)
    }

    fn ssh(&self, script: &str) -> String {
        self.host.ssh_ok(script).unwrap()
    }

    /// What the host did in its last attempt, without what a switch says.
    fn effects(&self) -> Vec<String> {
        let script = "grep -h '^bosco: .* begins$' \"$(ls -t /nix/var/bosco/*.log | head -n 1)\"";
        let word = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        self.ssh(script).lines().map(word).collect()
    }

    /// How many connections sshd has let in.
    fn connections(&self) -> usize {
        let said = self.ssh("journalctl --quiet --unit sshd --output cat | grep -c 'Accepted publickey'");
        said.trim().parse().unwrap()
    }

    /// The digest of the bundle that was committed last, and of which one is there.
    fn digests(&self) -> (String, String) {
        let journal = self.ssh("cat /nix/var/bosco/journal.json");
        let journal: serde_json::Value = serde_json::from_str(&journal).unwrap();
        let there = self.ssh("cd /nix/var/bosco/secrets && ls");
        (journal["secrets"].as_str().unwrap().to_owned(), there.trim().trim_end_matches(".json").to_owned())
    }

    fn reboot(&self) {
        self.host.power_cut(Unsynced::Kept).unwrap();
        self.host.boot().unwrap();
        self.host.wait_for_boot(LIMIT).unwrap();
    }
}

/// An app that needs secrets, and counts its starts.
const APP: &str = r#"
  users.users.app = { isSystemUser = true; group = "app"; };
  users.groups.app = { };
  sops.defaultSopsFile = ./web.yaml;
  sops.secrets.token = { owner = "app"; mode = "0440"; restartUnits = [ "app.service" ]; };
  sops.secrets."db/password" = { key = "password"; path = "/var/lib/app/password"; };
  sops.secrets.hash.neededForUsers = true;
  sops.templates."app.conf".content = "password = ${config.sops.placeholder."db/password"}!";
  deployment.keys.upload = { text = "key-in-clear"; user = "app"; permissions = "0400"; };
  deployment.keys.late = { keyCommand = [ "echo" "late-in-clear" ]; uploadAt = "post-activation"; destDir = "/run/late"; };
  systemd.services.app = {
    wantedBy = [ "multi-user.target" ];
    requires = [ "token-key.service" "upload-key.service" ];
    after = [ "token-key.service" "upload-key.service" ];
    path = [ pkgs.coreutils ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = ''
      echo "$(cat /run/secrets/token) $(cat /run/keys/upload) $(cat /run/secrets/rendered/app.conf)" > /run/app-saw
      echo x >> /run/app-starts
    '';
  };
"#;

#[test]
fn secrets_are_there_before_what_needs_them_and_after_a_reboot_too() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let web = Web::new(&lab);
    web.own(APP);
    web.encrypt(
        "web.yaml",
        &[("token", "token-in-clear"), ("password", "pass-in-clear"), ("hash", "hash-in-clear")],
    );
    web.bosco(&["apply"]).exits(0).says("1 committed: web");

    let look = |web: &Web<'_>| {
        assert_eq!(
            web.ssh("cat /run/app-saw").trim(),
            "token-in-clear key-in-clear password = pass-in-clear!"
        );
        assert_eq!(web.ssh("stat -c '%U %G %a' $(readlink -f /run/secrets/token)").trim(), "app app 440");
        assert_eq!(web.ssh("cat /var/lib/app/password"), "pass-in-clear");
        assert_eq!(web.ssh("readlink /var/lib/app/password").trim(), "/run/secrets/db/password");
        assert_eq!(web.ssh("cat /run/secrets-for-users/hash"), "hash-in-clear");
        assert_eq!(web.ssh("stat -c '%U %a' /run/keys/upload").trim(), "app 400");
        assert_eq!(web.ssh("cat /run/late/late").trim(), "late-in-clear");
        web.ssh("systemctl is-active token-key.service db-password-key.service upload-key.service late-key.service");
        assert_eq!(web.ssh("stat -f -c %T /run/secrets.d /run/secrets-for-users.d"), "ramfs\nramfs\n");
    };
    look(&web);
    web.bosco(&["apply"]).exits(0).says("1 up to date: web");
    web.reboot();
    look(&web);
    assert_eq!(state(web.operator, &web.fleet, "web"), "up-to-date");
}

/// What is done on a host where nothing but secrets changes, and no unit hears of it.
const ONLY_SECRETS: [&str; 3] = ["check", "install-secrets", "disarm"];

/// What the secrets of a fleet say, as they are at first.
const FIRST: [(&str, &str); 3] =
    [("token", "token-in-clear"), ("password", "pass-in-clear"), ("hash", "hash-in-clear")];

#[test]
fn what_has_changed_arrives_without_a_new_system_and_what_can_not_be_opened_changes_nothing() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let web = Web::new(&lab);
    let own = APP.to_owned();
    web.own(&own);
    web.encrypt("web.yaml", &FIRST);
    web.bosco(&["apply"]).exits(0).says("1 committed: web");
    let system = web.ssh("readlink -f /run/current-system");
    let starts = |web: &Web<'_>| web.ssh("wc -l < /run/app-starts").trim().to_owned();
    assert_eq!(starts(&web), "1");

    // A secret whose reader wants to know.
    web.encrypt("web.yaml", &[("token", "token-2-in-clear"), FIRST[1], FIRST[2]]);
    web.bosco(&["apply"]).exits(0).says("1 committed: web");
    assert_eq!(web.ssh("readlink -f /run/current-system"), system);
    assert!(web.ssh("cat /run/app-saw").starts_with("token-2-in-clear "));
    assert_eq!(starts(&web), "2");
    assert!(web.effects().contains(&"switch".to_owned()), "{:?}", web.effects());
    // Another one, of which nobody wants to.
    let second = [("token", "token-2-in-clear"), ("password", "pass-2-in-clear"), FIRST[2]];
    web.encrypt("web.yaml", &second);
    web.bosco(&["apply"]).exits(0).says("1 committed: web");
    assert_eq!(web.ssh("cat /var/lib/app/password"), "pass-2-in-clear");
    assert_eq!(web.ssh("cat /run/secrets/rendered/app.conf"), "password = pass-2-in-clear!");
    assert_eq!(starts(&web), "2");
    assert_eq!(web.effects(), ONLY_SECRETS, "nothing was switched for it");
    assert_eq!(web.ssh("readlink -f /run/current-system"), system);
    web.bosco(&["apply"]).exits(0).says("1 up to date: web");
    // A key alone.
    web.own(&own.replace("key-in-clear", "key-2-in-clear"));
    let before = web.connections();
    web.bosco(&["apply", "--goal", "keys"]).exits(0).says("its secrets are committed");
    // The one more is who counts.
    assert_eq!(web.connections(), before + 2, "keys took more than one connection");
    assert_eq!(web.effects(), ONLY_SECRETS);
    let key = "stat -c '%U %a' /run/keys/upload; cat /run/keys/upload";
    assert_eq!(web.ssh(key), "app 400\nkey-2-in-clear");
    let (committed, there) = web.digests();
    assert_eq!(committed, there, "it is what the next boot installs, and nothing else is kept");
    web.bosco(&["apply", "--goal", "keys"]).exits(0).says("1 up to date: web");
    web.reboot();
    assert_eq!(web.ssh(key), "app 400\nkey-2-in-clear");
    assert_eq!(web.ssh("cat /var/lib/app/password"), "pass-2-in-clear");
    web.own(&own);

    // Encrypted to somebody else.
    let stays = |web: &Web<'_>| {
        assert_eq!(web.ssh("cat /run/secrets/token"), "token-2-in-clear");
        assert_eq!(web.ssh("cat /run/keys/upload"), "key-2-in-clear");
        web.ssh("systemctl is-active app.service token-key.service");
    };
    let other = "age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs";
    web.fleet.write("web.yaml", &encrypted(&FIRST, &[other]).unwrap()).unwrap();
    web.bosco(&["apply"])
        .exits(4)
        .says("refused: ")
        .says("and 2 more: its file `web.yaml` can't be opened: it is encrypted to age1a8pk4");
    stays(&web);
    // A value that is not there.
    web.encrypt("web.yaml", &second[1..]);
    let lacks = "web.yaml: the secret `token` is `token`, which is not in this file";
    web.bosco(&["apply"]).exits(3).says(lacks);
    stays(&web);

    // A system that does not hold goes back with its secrets.
    web.encrypt("web.yaml", &[("token", "token-3-in-clear"), second[1], second[2]]);
    web.own(&format!(
        "{own} deployment.healthChecks.no = {{ command = \"! grep -q token-3 /run/app-saw\"; retries = 0; }};"
    ));
    web.bosco(&["apply"]).exits(4).says("reverted: ");
    stays(&web);
    assert!(web.ssh("cat /run/app-saw").starts_with("token-2-in-clear "), "its reader has the old one again");
    assert_eq!(web.ssh("ls /nix/var/bosco/secrets | wc -l").trim(), "1", "only what was committed is kept");
}

#[test]
fn what_was_revoked_does_not_come_back_and_nothing_is_found_on_a_disk() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let web = Web::new(&lab);
    let own = APP.to_owned();
    web.own(&own);
    web.encrypt("web.yaml", &FIRST);
    // Whoever looks at all processes of the host meanwhile sees none of them.
    let words = ["token-in-clear", "pass-in-clear", "hash-in-clear", "key-in-clear", "late-in-clear"];
    let watch = Watch::begin(web.host, &words);
    web.bosco(&["apply"]).exits(0).says("1 committed: web");
    assert_eq!(watch.end(), "");

    // Its user goes, and the secret from the file.
    web.own("sops.defaultSopsFile = ./web.yaml; sops.secrets.hash.neededForUsers = true;");
    web.encrypt("web.yaml", &FIRST[1..]);
    web.bosco(&["apply"]).exits(0).says("1 committed: web");
    web.ssh("! test -e /run/secrets/token && ! test -e /run/keys/upload && ! test -e /run/late/late");
    web.ssh("! test -L /var/lib/app/password");
    web.bosco(&["rollback", "web"]).exits(0);
    web.ssh("! test -e /run/secrets/token && ! systemctl is-active token-key.service");
    web.ssh("systemctl status token-key.service | grep -q 'is not there: '");
    assert_eq!(web.ssh("cat /run/secrets-for-users/hash"), "hash-in-clear");
    // The same from a boot, whose units of what was revoked fail.
    web.host.power_cut(Unsynced::Kept).unwrap();
    web.host.boot().unwrap();
    web.host.wait_for_ssh(LIMIT).unwrap();
    web.ssh("! test -e /run/secrets/token && test -e /run/secrets-for-users/hash");

    assert_eq!(kept_on(web.host, &words), Vec::<String>::new());

    // Whatever ends the helper while it has them, nothing of its memory is written to a disk.
    let dumps = |program: &str| {
        web.ssh(&format!(
            "rm -rf /run/cores /run/top; mkdir -p /run/cores /run/top/etc/bosco; mkfifo /run/top/etc/bosco/secrets.json\n\
             cd /run/cores; ulimit -c unlimited; {program} & one=$!\n\
             exec 3> /run/top/etc/bosco/secrets.json; kill -ABRT $one; wait $one; test $? = 134; ls | wc -l"
        ))
    };
    // Where the kernel hands dumps to a program, that is not the host's.
    if !fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().starts_with('|') {
        assert_eq!(dumps("cat /run/top/etc/bosco/secrets.json").trim(), "1", "others are dumped");
    }
    let helper = "/nix/var/nix/gcroots/bosco/helper/bin/bosco";
    assert_eq!(dumps(&format!("{helper} helper secrets install /run/top")).trim(), "0");
}

#[test]
fn a_host_without_boscos_module_has_its_keys_until_it_reboots_and_that_is_said() {
    let lab = Lab::up(&LabSpec::named(["web"])).unwrap();
    let (operator, host) = (lab.operator(), lab.host("web").unwrap());
    let fleet = create(operator, "fleet").unwrap();
    let hive = |early: &str| {
        let text = format!(
            "{{ meta.nixpkgs = import <nixpkgs> {{ system = \"x86_64-linux\"; }};
  web = {{ config, pkgs, ... }}: {{
    services.openssh.enable = true; networking.hostName = \"web\"; system.stateVersion = \"26.05\";
    deployment.update = {{ confirmTimeout = 20; activationTimeout = 60; }};
    users.users.app = {{ isSystemUser = true; group = \"app\"; }};
    users.groups.app = {{ }};
    deployment.keys.early = {{ text = \"{early}\"; user = \"app\"; group = \"app\"; permissions = \"0440\"; }};
    deployment.keys.late = {{ keyCommand = [ \"echo\" \"late-in-clear\" ]; uploadAt = \"post-activation\"; }};
  }};
}}\n"
        );
        fleet.write("hive.nix", &text).unwrap();
    };
    hive("early-in-clear");
    let apply = || bosco(operator, &fleet, &["apply"]);
    apply().exits(0).says("1 committed: web").says("last until it reboots");
    let early = "stat -c '%U %G %a' /run/keys/early; cat /run/keys/early";
    assert_eq!(host.ssh_ok(early).unwrap(), "app app 440\nearly-in-clear");
    assert_eq!(host.ssh_ok("cat /run/keys/late").unwrap(), "late-in-clear\n");
    apply().exits(0).says("1 up to date: web");
    hive("other-in-clear");
    bosco(operator, &fleet, &["upload-keys"]).exits(0).says("its secrets are committed");
    assert_eq!(host.ssh_ok(early).unwrap(), "app app 440\nother-in-clear");
    let last = host.ssh_ok("cat \"$(ls -t /nix/var/bosco/*.log | head -n 1)\"").unwrap();
    assert!(last.contains("install-secrets done") && !last.contains("switch begins"), "{last}");
    host.ssh_ok("test $(ls /nix/var/bosco/secrets | wc -l) = 1").unwrap();
}

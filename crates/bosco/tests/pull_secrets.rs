//! Secrets of hosts that fetch what they should run: from git to the host, and readable nowhere on the way.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::plaintext::kept_on;
use common::pull::{HUB, Pull, STATE};
use testbed::sops::encrypted;
use testbed::{Host, Lab, LabSpec, Unsynced};

/// Far more than a boot takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Every text that is secret at some time in here.
const WORDS: [&[u8]; 5] =
    [b"token-in-clear", b"token-2-in-clear", b"pass-in-clear", b"key-in-clear", b"key-2-in-clear"];

/// An app that needs two secrets of a sops file and a key of the operator's.
const APP: &str = r#"
  imports = [ modules.sops ];
  users.users.app = { isSystemUser = true; group = "app"; };
  users.groups.app = { };
  sops.defaultSopsFile = ../web.yaml;
  sops.secrets.password = { };
  TOKEN
  systemd.services.app = {
    wantedBy = [ "multi-user.target" ];
    after = [ "token-key.service" "upload-key.service" ];
    path = [ pkgs.coreutils ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = "cat /run/secrets/token /run/keys/upload > /run/app-saw || true";
  };
"#;
const TOKEN: &str = r#"sops.secrets.token = { owner = "app"; restartUnits = [ "app.service" ]; };"#;

/// A host that fetches, and what it should have.
struct Web<'a> {
    pull: Pull<'a>,
    laptop: &'a Host,
}

impl<'a> Web<'a> {
    fn own(&self, options: &str) {
        let key = self.pull.lab.operator().dir().join("upload-key");
        let text = format!(
            "{{ config, pkgs, lib, modules, ... }}: {{ services.bosco.agent.enable = true;\n{options}\n\
             deployment.keys.upload = {{ keyFile = \"{}\"; user = \"app\"; permissions = \"0400\"; }};\n}}\n",
            key.display()
        );
        self.pull.fleet.write("hosts/laptop.nix", &text).unwrap();
    }

    /// What the operator's own file says, which is in no repository.
    fn key(&self, text: &str) {
        fs::write(self.pull.lab.operator().dir().join("upload-key"), text).unwrap();
    }

    fn encrypt(&self, values: &[(&str, &str)]) {
        let key = self.laptop.public_key().unwrap();
        self.pull.fleet.write("web.yaml", &encrypted(values, &[&key]).unwrap()).unwrap();
    }

    fn ask(&self, script: &str) -> String {
        self.laptop.at_keyboard(script).unwrap().trim().to_owned()
    }

    fn release(&self) -> common::Said {
        let key = self.pull.lab.operator().ssh_key();
        self.pull.bosco(&["release", "--sign-with", key.to_str().unwrap()])
    }
}

/// Which of the words are in a file below a folder, as it is or behind its compression.
fn found(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(self::found(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let open = zstd::decode_all(bytes.as_slice()).unwrap_or_default();
            let has = |word: &&[u8]| {
                [&bytes, &open].iter().any(|all| all.windows(word.len()).any(|at| at == *word))
            };
            if WORDS.iter().any(has) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn secrets_reach_a_host_that_fetches_and_are_readable_nowhere_on_the_way() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.enroll_agents();
    let web = Web { laptop: lab.host("laptop").unwrap(), pull };
    let app = APP.replace("TOKEN", TOKEN);
    web.own(&app);
    web.key("key-in-clear");
    web.encrypt(&[("token", "token-in-clear"), ("password", "pass-in-clear")]);
    let number = web.pull.release();
    web.pull.until_at("laptop", number);
    let look = |token: &str, key: &str| {
        assert_eq!(web.ask("cat /run/secrets/token"), token);
        assert_eq!(web.ask("cat /run/secrets/password"), "pass-in-clear");
        assert_eq!(
            web.ask("stat -c '%U %a' /run/keys/upload; cat /run/keys/upload"),
            format!("app 400\n{key}")
        );
        assert_eq!(web.ask("cat /run/app-saw"), format!("{token}{key}"));
    };
    look("token-in-clear", "key-in-clear");
    web.release().exits(0).says("nothing has changed since release");

    // What has changed comes without a new system.
    let system = web.ask("readlink -f /run/current-system");
    web.key("key-2-in-clear");
    web.encrypt(&[("token", "token-2-in-clear"), ("password", "pass-in-clear")]);
    web.release().exits(0).says("laptop: secrets");
    web.pull.until_at("laptop", number + 1);
    look("token-2-in-clear", "key-2-in-clear");
    assert_eq!(web.ask("readlink -f /run/current-system"), system);
    assert_eq!(web.ask("ls /nix/var/bosco/secrets | wc -l"), "1");
    let log = "cat \"$(ls -t /nix/var/bosco/*.log | head -n 1)\"";
    assert!(web.ask(log).contains("switch done"), "its reader wants to know");
    // Something that nobody wants to know.
    web.key("key-in-clear");
    web.release().exits(0).says("laptop: secrets");
    web.pull.until_at("laptop", number + 2);
    assert_eq!(web.ask("cat /run/keys/upload"), "key-in-clear");
    let log = web.ask(log);
    assert!(log.contains("install-secrets done") && !log.contains("switch begins"), "{log}");
    web.key("key-2-in-clear");
    web.release().exits(0).says("laptop: secrets");
    web.pull.until_at("laptop", number + 3);
    web.pull.bosco(&["diff", &number.to_string(), &(number + 1).to_string()]).exits(0).says("secrets");

    // Nobody is there when it boots.
    web.pull.hub().power_cut(Unsynced::Kept).unwrap();
    web.laptop.power_cut(Unsynced::Kept).unwrap();
    web.laptop.boot().unwrap();
    web.laptop.wait_for_boot(LIMIT).unwrap();
    look("token-2-in-clear", "key-2-in-clear");
    web.pull.hub().boot().unwrap();
    web.pull.hub().wait_for_boot(LIMIT).unwrap();
    web.pull.until_hub();

    // What was revoked is gone, and stays so with the system from before.
    web.own(&APP.replace("TOKEN", ""));
    web.encrypt(&[("password", "pass-in-clear")]);
    let number = web.pull.release();
    web.pull.until_at("laptop", number);
    let gone = "! test -e /run/secrets/token && test -e /run/secrets/password && test -e /run/keys/upload";
    web.ask(gone);
    web.pull.bosco(&["rollback", "laptop"]).exits(0);
    assert_eq!(web.ask("readlink -f /run/current-system"), system);
    web.ask(gone);

    let log = web.pull.bosco(&["log", "laptop"]).exits(0);
    for word in WORDS.map(|word| str::from_utf8(word).unwrap()) {
        assert!(!log.out.contains(word), "{}", log.out);
    }
    web.pull.hub().ssh_ok("systemctl stop bosco-hub").unwrap();
    let state = web.pull.hub().root().join(STATE.trim_start_matches('/'));
    assert!(state.join("objects").is_dir() || fs::read_dir(&state).unwrap().count() > 1);
    let planted = state.join("planted");
    fs::write(&planted, zstd::encode_all(WORDS[0], 0).unwrap()).unwrap();
    assert_eq!(found(&state), [planted.display().to_string()], "what is there is found");
    fs::remove_file(&planted).unwrap();
    assert_eq!(found(&state), Vec::<String>::new());
    let words = WORDS.map(|word| str::from_utf8(word).unwrap());
    for host in [web.laptop, web.pull.hub()] {
        assert_eq!(kept_on(host, &words), Vec::<String>::new(), "{}", host.name());
    }
}

#[test]
fn a_host_whose_key_nobody_knows_is_named_before_anything_is_signed() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    let web = Web { laptop: lab.host("laptop").unwrap(), pull };
    web.own("");
    web.key("key-in-clear");
    web.release().exits(3).says("no key of laptop is known").says("`bosco enroll HOST`");
}

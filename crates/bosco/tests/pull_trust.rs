//! Whom a host believes, whatever is played to it: old releases, a key that counts no more, a copy of its disk.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::pull::{HUB, PORT, Pull, STATE};
use serde_json::{Value, json};
use testbed::{Lab, LabSpec, Unsynced};

/// Far more than a boot takes.
const BOOT: Duration = Duration::from_secs(60);

/// What is to be seen of a release on a host.
fn greets(pull: &Pull<'_>, hosts: &[&str], greeting: &str) {
    for host in hosts {
        pull.with_agent(host, &format!("environment.etc.greeting.text = \"{greeting}\";"));
    }
}

fn greeting(pull: &Pull<'_>, host: &str) -> String {
    pull.lab.host(host).unwrap().at_keyboard("cat /etc/greeting || :").unwrap()
}

/// What `bosco status` raises the alarm for.
fn alarms(pull: &Pull<'_>, host: &str) -> String {
    let status = pull.json(&["status", "--on", host]);
    status[0]["alarms"]
        .as_array()
        .unwrap_or_else(|| panic!("no alarms in {status}"))
        .iter()
        .map(Value::to_string)
        .collect()
}

#[test]
fn a_host_that_was_off_takes_only_the_newest_and_no_host_goes_back_with_a_hub_that_does() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop", "desk"])).unwrap();
    let pull = Pull::new(&lab);
    let (laptop, desk) = (lab.host("laptop").unwrap(), lab.host("desk").unwrap());
    pull.start_hub();
    pull.enroll_agents();
    let release = |text: &str| {
        greets(&pull, &["laptop", "desk"], text);
        pull.release()
    };
    let first = release("one");
    pull.until_at("laptop", first);
    pull.until_at("desk", first);
    pull.until("desk", "reported", |_| !pull.reports("desk").is_empty());

    // One is off while three are made, and so is the hub for a backup.
    desk.power_cut(Unsynced::Kept).unwrap();
    let hub = |script: &str| {
        let script = format!("systemctl stop bosco-hub; {script}; systemctl start bosco-hub");
        pull.hub().ssh_ok(&script).unwrap();
    };
    hub(&format!("cp -a {STATE} /root/backup"));
    release("two");
    release("three");
    let newest = release("four");
    pull.until_at("laptop", newest);
    desk.boot().unwrap();
    pull.until_at("desk", newest);
    pull.until("desk", "reported", |_| pull.reports("desk").len() > 1);
    assert_eq!(pull.reports("desk"), [(newest, "committed".to_owned()), (first, "committed".to_owned())]);

    hub(&format!("find {STATE} -mindepth 1 -delete; cp -a /root/backup/. {STATE}"));
    for (host, machine) in [("laptop", laptop), ("desk", desk)] {
        pull.until(host, "connected", |stands| stands["connected"] == true);
        pull.until_says(host, "somebody replays an old one");
        assert!(alarms(&pull, host).contains("replays"), "{}", alarms(&pull, host));
        assert_eq!(greeting(&pull, host), "four");
        let attempt = pull.journal(host)["attempt"].take();
        assert_eq!(attempt["request"]["number"], newest, "{}: {attempt}", machine.name());
    }
    let next = release("five");
    assert!(next > newest, "the hub has given out {next} again: hosts are at {newest}");
    for host in ["laptop", "desk"] {
        pull.until_at(host, next);
        assert_eq!((greeting(&pull, host).as_str(), alarms(&pull, host).as_str()), ("five", ""));
    }
}

#[test]
fn a_copy_of_a_host_raises_an_alarm_one_that_moves_none_and_one_that_was_stolen_gets_nothing_more() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop", "copy", "desk"])).unwrap();
    let mut pull = Pull::new(&lab);
    let (laptop, copy) = (lab.host("laptop").unwrap(), lab.host("copy").unwrap());
    pull.start_hub();
    pull.own(
        "copy",
        "services.bosco.agent = { enable = true; host = \"laptop\"; identity = \"/root/key\"; };",
    );
    pull.bosco(&["apply", "--on", "copy"]).exits(0);
    pull.agents.retain(|name| *name != "copy");
    pull.enroll_agents();
    let first = pull.release();
    pull.until_at("laptop", first);

    // It comes again and again, from another address at last, and to a hub that has begun anew.
    let comes_again = || {
        laptop.at_keyboard("systemctl stop bosco-agent").unwrap();
        pull.until("laptop", "away", |stands| stands["connected"] == false);
        laptop.at_keyboard("systemctl start bosco-agent").unwrap();
        pull.until("laptop", "connected", |stands| stands["connected"] == true)
    };
    comes_again();
    laptop.at_keyboard("systemctl kill -s KILL bosco-agent").unwrap();
    pull.kill_hub();
    pull.until_hub();
    pull.until("laptop", "connected", |stands| stands["connected"] == true);
    laptop.behind_nat().unwrap();
    let stands = comes_again();
    assert_eq!(stands["alarms"], json!([]), "it has only moved");

    // What it has on its disk, on another machine.
    for path in ["nix/var/bosco/.", "etc/ssh/ssh_host_ed25519_key"] {
        let to = copy.root().join(if path.starts_with("nix") { "nix/var/bosco" } else { "root/key" });
        assert!(
            Command::new("cp").arg("-a").arg(laptop.root().join(path)).arg(to).status().unwrap().success()
        );
    }
    copy.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until_says("copy", "connected to the hub");
    laptop.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until("laptop", "an alarm", |stands| {
        stands["alarms"].to_string().contains("two machines have its key")
    });
    assert!(alarms(&pull, "laptop").contains("two machines have its key"));
    pull.until_says("laptop", "two machines have its key");
    copy.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until_says("copy", "two machines have its key");

    // One of them was stolen.
    pull.bosco(&["forget", "laptop"]).exits(0).says("the hub lets it in no more");
    pull.until_says("laptop", "does not know this machine's key");
    pull.until_says("copy", "does not know this machine's key");
    greets(&pull, &["laptop", "desk"], "not for thieves");
    let number = pull.release();
    pull.until_at("desk", number);
    assert_eq!(pull.stands("laptop"), Value::Null);
    for host in ["laptop", "copy"] {
        assert_eq!(greeting(&pull, host), "");
        assert!(!pull.log(host).contains(&format!("release {number} is there")), "{}", pull.log(host));
    }
}

/// Has a host ask to be let in, and lets it in, by the code that it shows.
fn join(pull: &Pull<'_>, host: &str) {
    let machine = pull.lab.host(host).unwrap();
    std::thread::scope(|scope| {
        let asks = format!("bosco agent join --host {host} --hub {HUB}:{PORT}");
        let joining = scope.spawn(move || machine.at_keyboard(&asks).unwrap());
        let began = Instant::now();
        let code = loop {
            let asked = pull.json(&["approve"]);
            if let Some(code) = asked[0]["code"].as_str() {
                break code.to_owned();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nobody asks to be let in: {asked}");
        };
        assert_ne!(pull.bosco(&["approve", "no-such-code"]).says("no machine").code, 0);
        pull.bosco(&["approve", &code]).exits(0).says(&format!("{host}: let in with SHA256:"));
        let shown = joining.join().unwrap();
        assert!(shown.contains(&code), "it shows another code than {code}: {shown}");
    });
}

#[test]
fn a_host_joins_by_its_code_and_a_key_that_was_revoked_does_not_come_back_with_an_old_generation() {
    const HOST: &str = "laptop";
    let lab = Lab::up(&LabSpec::named([HUB, HOST])).unwrap();
    let mut pull = Pull::new(&lab);
    let bob = lab.operator().dir().join("bob");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&bob);
    assert!(keygen.status().unwrap().success());
    let key = std::fs::read_to_string(bob.with_extension("pub")).unwrap();
    let with_bob = format!("\n[operators.bob]\nkeys = [\"{}\"]\n", key.trim());
    pull.more.clone_from(&with_bob);
    let hub_key = pull.start_hub();
    let host = lab.host(HOST).unwrap();
    pull.bosco(&["apply", "--on", HOST]).exits(0);
    join(&pull, HOST);
    pull.until(HOST, "heard", |stands| !stands["runs"].is_null());
    pull.bosco(&["resume", HOST]).exits(0);

    let by_bob = |text: &str| {
        greets(&pull, &[HOST], text);
        pull.bosco(&["release", "--sign-with", bob.to_str().unwrap()]).exits(0).says("by bob");
    };
    let is_there = |stands: &Value| stands["state"] == "up-to-date";
    by_bob("bob's");
    pull.until(HOST, "bob's release", is_there);
    assert_eq!(greeting(&pull, HOST), "bob's");

    // The hub keeps to the old file: it may be anybody's.
    let trusts = |version: u64, more: &str| {
        pull.trusts(version, Some(&hub_key));
        let file = pull.fleet.path().join("bosco.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace(&with_bob, more);
        pull.fleet.write("bosco.toml", &text).unwrap();
    };
    trusts(2, "");
    greets(&pull, &[HOST], "without bob");
    let number = pull.release();
    pull.until_at(HOST, number);
    let version = || {
        let trust = std::fs::read(host.root().join("nix/var/bosco/trust.json")).unwrap();
        serde_json::from_slice::<Value>(&trust).unwrap()["version"].clone()
    };
    assert_eq!(version(), 2);

    // What it ran before does not know it.
    pull.bosco(&["rollback", "--on", HOST]).exits(0);
    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_boot(BOOT).unwrap();
    assert_eq!(greeting(&pull, HOST), "bob's");
    pull.until(HOST, "connected", |stands| stands["connected"] == true);
    pull.bosco(&["resume", HOST]).exits(0);
    // Whoever has his key and the hub says that he is to be trusted again.
    trusts(3, &with_bob);
    by_bob("bob's again");
    let refused = "which nobody has who may sign for this host";
    let stands = pull.until(HOST, "refused", |stands| stands["reason"].to_string().contains(refused));
    assert_ne!(stands["runs"], stands["should"], "{stands}");
    assert_eq!((greeting(&pull, HOST).as_str(), version()), ("bob's", json!(2)));

    trusts(4, "");
    greets(&pull, &[HOST], "ada's again");
    let number = pull.release();
    pull.until_at(HOST, number);
    assert_eq!(greeting(&pull, HOST), "ada's again");
}

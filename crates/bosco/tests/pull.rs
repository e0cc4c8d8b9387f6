//! A fleet whose hosts fetch what they should run, on real machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use common::pull::{HUB, PORT, Pull, STATE};
use serde_json::json;
use testbed::{Lab, LabSpec};

#[test]
fn a_hub_runs_from_its_module_and_answers_an_operators_own_ssh() {
    let lab = Lab::up(&LabSpec::named([HUB])).unwrap();
    let pull = Pull::new(&lab);
    let key = pull.start_hub();
    assert!(key.starts_with("ssh-ed25519 "), "{key}");

    let hub = pull.hub();
    let ask = |script: &str| hub.ssh_ok(script).unwrap().trim().to_owned();
    let process = ask("systemctl show --value -p MainPID bosco-hub");
    assert_eq!(ask(&format!("stat -c %U /proc/{process}")), "bosco-hub");
    assert_eq!(ask(&format!("stat -c '%U %a' {STATE}")), "bosco-hub 700");
    assert_eq!(
        ask("grep CapEff /proc/$(systemctl show --value -p MainPID bosco-hub)/status | cut -f 2"),
        "0000000000000000"
    );

    let (status, answer) = pull.ask("GET", "/v1/status", None);
    assert_eq!((status, &answer["hosts"]), (200, &json!([])), "{answer}");

    // Another fleet file ends no connection: the same process reads it.
    pull.trusts(2, Some(&key));
    pull.bosco(&["apply", "--on", HUB]).exits(0).says("1 committed");
    assert_eq!(ask("systemctl show --value -p MainPID bosco-hub"), process);
}

/// What the agent's unit has to let it do, and what it must not: each line that fails ends it.
const STAND_IN: &str = r#"
  echo "$@" > /run/agent-was-given
  [ "$(id -u)" = 0 ] && test -r /etc/ssh/ssh_host_ed25519_key
  # The journal, the queue of reports, roots.
  mkdir -p /nix/var/bosco/reports /nix/var/nix/gcroots/bosco
  echo 1 > /nix/var/bosco/reports/probe.new && mv /nix/var/bosco/reports/probe.new /nix/var/bosco/reports/probe
  ln -sfn "$(readlink -f /run/current-system)" /nix/var/nix/gcroots/bosco/probe
  # Nix, through its daemon: what is asked, what is written, and that it is found again.
  added=$(nix-store --add /etc/hostname)
  nix-store --query --hash "$added"
  nix-store --export "$added" | nix-store --import
  nix-store --realise "$added" --add-root /nix/var/nix/gcroots/bosco/added
  # Units of its own, in which nothing of this one's bounds is left.
  systemd-run --quiet --wait --collect sh -c 'echo 1 > /root/from-a-unit && ! test -e /tmp/mine'
  systemctl show --value -p ActiveState bosco-agent
  # The network, by a name that only /etc/hosts has.
  timeout 10 bash -c '</dev/tcp/hub/2222'
  # And nothing else.
  touch /tmp/mine
  for place in /etc/x /root/x /usr/x /boot/x /nix/store/x /proc/sys/kernel/hostname; do
    if echo 1 2>/dev/null > "$place"; then echo "$place can be written to"; exit 1; fi
  done
  if unshare --mount true 2>/dev/null; then echo "namespaces can be made"; exit 1; fi
  case "$*" in *--once) ;; *) systemd-notify --ready ;; esac
  echo fine > /run/agent-is
  exec sleep infinity
"#;

#[test]
fn an_agents_unit_lets_it_do_its_work_and_little_else() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    let stand_in = |more: &str| {
        pull.own(
            "laptop",
            &format!(
                "services.bosco.agent = {{ enable = true; {more} package = lib.mkForce \
                 (pkgs.writeShellScriptBin \"bosco\" ''\n set -ex\n{STAND_IN}''); \
                 helper = \"${{program}}/libexec/bosco/helpers/x86_64-linux/bosco-helper/bin/bosco\"; }};",
            ),
        );
    };
    stand_in("");
    let said = pull.bosco(&["apply", "--on", "laptop"]);
    let laptop = lab.host("laptop").unwrap();
    let log = || laptop.ssh_ok("journalctl --no-pager --output cat -u bosco-agent").unwrap();
    assert_eq!(said.code, 0, "{}\n{}\n{}", said.out, said.err, log());
    let ask = |script: &str| laptop.ssh_ok(script).unwrap().trim().to_owned();

    // Nothing of it runs before a hub has let the host in; from then on it does.
    assert_eq!(ask("systemctl is-active bosco-agent || :"), "inactive");
    ask("echo '{}' > /nix/var/bosco/trust.new && mv /nix/var/bosco/trust.new /nix/var/bosco/trust.json");
    let fine = "for try in $(seq 100); do cat /run/agent-is 2>/dev/null && exit; sleep 0.1; done";
    assert_eq!(ask(fine), "fine", "{}", log());
    let given = ask("cat /run/agent-was-given");
    assert!(given.starts_with("agent --host laptop --identity /etc/ssh/ssh_host_ed25519_key "), "{given}");
    let helper = given.split(' ').find(|word| word.ends_with("bosco-helper/bin/bosco")).unwrap();
    ask(&format!("{helper} --help >/dev/null 2>&1; [ $? -lt 126 ]"));

    // It comes back however it ends.
    ask("rm /run/agent-is && systemctl kill -s KILL bosco-agent");
    assert_eq!(ask(fine), "fine", "{}", log());

    // From a timer it is the same, and a switch does not wait for its end.
    ask("rm /run/agent-is");
    stand_in("timer = \"*:*:0/2\";");
    pull.bosco(&["apply", "--on", "laptop"]).exits(0);
    assert_eq!(ask(fine), "fine", "{}", log());
    assert!(ask("cat /run/agent-was-given").ends_with(" --once"));
    assert_eq!(PORT, 2222, "the stand-in has it in words");
}

#[test]
fn an_agent_behind_nat_holds_its_connection_and_is_reached_through_it() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.start_agents();
    let laptop = lab.host("laptop").unwrap();
    pull.until("laptop", "connected", |stands| stands["connected"] == true);

    laptop.behind_nat().unwrap();
    assert!(laptop.connect(22, Duration::from_secs(1)).is_err());
    laptop.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until("laptop", "connected", |stands| stands["connected"] == true);
    // Its sshd greets, at the end of what the agent holds.
    let mut ssh = pull.ssh(&["-W", "laptop:22"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut greeting).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(&greeting, b"SSH-");

    // The unit is what it was through all of that.
    let unit = laptop.at_keyboard("systemctl show -p NRestarts,Result,ActiveState bosco-agent").unwrap();
    assert!(unit.contains("ActiveState=active") && unit.contains("NRestarts=0"), "{unit}");
}

#[test]
fn a_release_reaches_a_host_that_nobody_can_reach() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.bosco(&["apply", "--on", "laptop"]).exits(0);
    pull.bosco(&["enroll", "laptop"]).exits(0);
    let laptop = lab.host("laptop").unwrap();
    laptop.behind_nat().unwrap();

    // What it runs already; but the push has left a hold.
    pull.until("laptop", "heard", |stands| !stands["runs"].is_null());
    let number = pull.release();
    pull.until_at("laptop", number);

    pull.bosco(&["resume", "laptop"]).exits(0);
    let agent = "services.bosco.agent.enable = true;";
    pull.own("laptop", &format!("{agent} environment.etc.greeting.text = \"hello\";"));
    let number = pull.release();
    pull.until_at("laptop", number);
    assert_eq!(laptop.at_keyboard("cat /etc/greeting").unwrap(), "hello");
    let is_default = "[ $(readlink -f /run/current-system) = $(readlink -f /nix/var/nix/profiles/system) ]";
    laptop.at_keyboard(is_default).unwrap();

    // The agent that has asked for the switch is ended by it, and the next one proves it.
    let process = || laptop.at_keyboard("systemctl show --value -p MainPID bosco-agent").unwrap();
    let before = process();
    pull.own("laptop", &format!("{agent} services.bosco.agent.page.port = 9998;"));
    let number = pull.release();
    pull.until_at("laptop", number);
    assert_ne!(process(), before, "the switch has left the agent as it was");

    // What does not hold is taken back, and the agent says so.
    pull.own(
        "laptop",
        &format!("{agent} deployment.healthChecks.no = {{ command = \"false\"; retries = 0; }};"),
    );
    pull.release();
    let stands = pull.until("laptop", "quarantined", |stands| {
        ["reverted", "quarantined"].contains(&stands["state"].as_str().unwrap_or_default())
    });
    assert_ne!(stands["runs"], stands["should"], "{stands}");
    laptop.at_keyboard(is_default).unwrap();
}

#[test]
fn an_operator_enrolls_a_host_releases_to_it_and_reaches_it_through_the_hub() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.bosco(&["apply", "--on", "laptop"]).exits(0);
    pull.bosco(&["enroll", "laptop"])
        .exits(0)
        .says("laptop: enrolled with SHA256:")
        .says("it trusts ada")
        .does_not_say("no agent");
    pull.until("laptop", "connected", |stands| stands["connected"] == true);

    let key = lab.operator().ssh_key();
    let release = || pull.bosco(&["release", "--sign-with", key.to_str().unwrap()]);
    let system = |motd: &str| {
        let options = format!("services.bosco.agent.enable = true; environment.etc.motd.text = \"{motd}\";");
        pull.own("laptop", &options);
    };
    let is_there = |stands: &serde_json::Value| stands["state"] == "up-to-date";
    system("released");
    release().exits(0).says("by ada").says("laptop: new in the fleet");
    pull.until("laptop", "up to date", is_there);
    pull.bosco(&["log", "laptop"]).exits(0).says("laptop, release ").says("committed");
    // The other one has no agent, and says itself what it runs.
    let status = pull.json(&["status"]);
    assert_eq!(status.as_array().unwrap().len(), 2, "{status}");
    assert_eq!((&status[0]["state"], &status[1]["state"]), (&json!("up-to-date"), &json!("up-to-date")));

    let laptop = lab.host("laptop").unwrap();
    laptop.behind_nat().unwrap();
    laptop.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until("laptop", "connected", |stands| stands["connected"] == true);
    pull.bosco(&["exec", "laptop", "--", "hostname"]).exits(0).says("through the hub").says("laptop:");
    pull.bosco(&["ssh", "laptop", "--", "hostname"]).exits(0).says("through the hub");

    // A push is proven through the hub too, and holds the host until a release has the same.
    system("pushed");
    pull.bosco(&["apply", "--on", "laptop"]).exits(0).says("through the hub").says("1 committed");
    // It says so the next time that it says anything; this is sooner.
    laptop.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until("laptop", "held", |stands| stands["state"] == "held");
    release().exits(0).says("it has what was pushed to laptop");
    pull.until("laptop", "up to date again", is_there);

    // Who is to stay as it is stays, whatever is released, until it is let go.
    pull.bosco(&["hold", "laptop", "--why", "a demo"]).exits(0);
    system("later");
    release().exits(0);
    let waits = |stands: &serde_json::Value| stands["state"] == "held" && stands["should"] != stands["runs"];
    let stands = pull.until("laptop", "held with another release", waits);
    assert!(stands["reason"].to_string().contains("a demo"), "{stands}");
    assert_eq!(laptop.at_keyboard("cat /etc/motd").unwrap(), "pushed");
    pull.bosco(&["resume", "laptop"]).exits(0);
    pull.until("laptop", "what is newer", is_there);
    assert_eq!(laptop.at_keyboard("cat /etc/motd").unwrap(), "later");
}

#[test]
fn a_release_lifts_the_hold_of_what_it_contains() {
    let lab = Lab::up(&LabSpec::named([HUB, "laptop"])).unwrap();
    let pull = Pull::new(&lab);
    pull.start_hub();
    pull.bosco(&["apply", "--on", "laptop"]).exits(0);
    pull.bosco(&["enroll", "laptop"]).exits(0);
    pull.until("laptop", "heard", |stands| !stands["runs"].is_null());
    let number = pull.release();
    pull.until_at("laptop", number);
    pull.own("laptop", "services.bosco.agent.enable = true; environment.etc.greeting.text = \"hello\";");
    let number = pull.release();
    pull.until_at("laptop", number);
}

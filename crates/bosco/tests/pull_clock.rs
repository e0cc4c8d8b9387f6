//! Clocks that are wrong: they delay and raise the alarm, and nothing is lost by them.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::pull::{HUB, Pull};
use common::{Said, clock, command};
use serde_json::Value;
use testbed::{Lab, LabSpec};

const HOST: &str = "laptop";
/// In seconds.
const DAY: i64 = 24 * 3600;
const TEN_YEARS: i64 = 3652 * DAY;

fn greets(pull: &Pull<'_>, greeting: &str) {
    pull.with_agent(HOST, &format!("environment.etc.greeting.text = \"{greeting}\";"));
}

fn waits_and_says(pull: &Pull<'_>, why: &str) {
    let stands = pull.until(HOST, why, |stands| stands["reason"].to_string().contains(why));
    assert!(stands["alarms"].to_string().contains(why), "{stands}");
    assert_ne!(stands["runs"], stands["should"], "{stands}");
}

fn greeting(pull: &Pull<'_>) -> String {
    pull.lab.host(HOST).unwrap().ssh_ok("cat /etc/greeting 2>/dev/null || :").unwrap()
}

#[test]
fn what_has_expired_and_a_clock_that_is_years_off_delay_a_release_and_block_no_rollback() {
    let lab = Lab::up(&LabSpec::named([HUB, HOST])).unwrap();
    let pull = Pull::new(&lab);
    let library = clock::library(lab.operator());
    pull.start_hub();
    pull.enroll_agents();
    let release = |text: &str| {
        greets(&pull, text);
        pull.release()
    };
    let number = release("one");
    pull.until_at(HOST, number);

    // Made two days ago, for one: somebody has withheld it, and what came after it.
    greets(&pull, "late");
    let offset = lab.operator().dir().join("clock-offset");
    std::fs::write(&offset, (-2 * DAY).to_string()).unwrap();
    let key = lab.operator().ssh_key();
    let words = ["release", "--expires", "1", "--sign-with", key.to_str().unwrap()];
    let mut late = command(lab.operator(), &pull.fleet, &words);
    late.env("LD_PRELOAD", &library).env("CLOCK_OFFSET", &offset);
    Said::of(&late.output().unwrap()).exits(0);
    waits_and_says(&pull, "the release has expired");
    assert_eq!(greeting(&pull), "one");
    let host = lab.host(HOST).unwrap();
    host.ssh_ok("bosco local rollback").unwrap();
    assert_eq!(greeting(&pull), "");
    // It says so the next time that it says anything; this is sooner.
    host.at_keyboard("systemctl restart bosco-agent").unwrap();
    pull.until(HOST, "held", |stands| stands["state"] == "held");
    pull.bosco(&["resume", HOST]).exits(0);
    let number = release("two");
    pull.until_at(HOST, number);
    assert_eq!(pull.stands(HOST)["alarms"], Value::Array(Vec::new()));

    // The agent's own clock.
    std::fs::copy(&library, host.root().join("nix/var/clock.so")).unwrap();
    let is_off_by = |seconds: i64| {
        let drop_in =
            "[Service]\\nEnvironment=LD_PRELOAD=/nix/var/clock.so CLOCK_OFFSET=/nix/var/clock-offset\\n";
        let script = format!(
            "echo {seconds} > /nix/var/clock-offset && mkdir -p /run/systemd/system/bosco-agent.service.d && \
             printf '{drop_in}' > /run/systemd/system/bosco-agent.service.d/clock.conf && \
             systemctl daemon-reload && systemctl restart bosco-agent"
        );
        host.ssh_ok(&script).unwrap();
    };
    is_off_by(TEN_YEARS);
    pull.until_says(HOST, "the release has expired");
    let number = release("three");
    waits_and_says(&pull, "the release has expired");
    is_off_by(-TEN_YEARS);
    waits_and_says(&pull, "the release is from the future");
    assert_eq!(greeting(&pull), "two");
    // It is set right while the agent runs.
    host.ssh_ok("echo 0 > /nix/var/clock-offset").unwrap();
    pull.bosco(&["trigger", HOST]).exits(0);
    pull.until_at(HOST, number);
    assert_eq!(greeting(&pull), "three");
}

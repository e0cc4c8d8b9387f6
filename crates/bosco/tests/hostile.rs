//! What a hostile or broken host answers does no harm to the operator. A script stands in for `ssh`, and answers as no
//! real host would.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Said, command};
use testbed::Operator;
use testbed::fleet::sample;

/// What an honest host says before anything is asked, but for what comes behind it.
const HONEST: &str = "bosco 1\\nuser 0\\nsystem x86_64-linux\\nnixos yes\\nnix yes\\n";

/// Runs bosco with a host that answers by this shell script.
fn against(script: &str, args: &[&str]) -> Said {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let bin = operator.dir().join("hostile");
    std::fs::create_dir(&bin).unwrap();
    let text = format!("#!/bin/sh\n[ \"$1\" != -V ] || exit 0\n{script}\n");
    std::fs::write(bin.join("ssh"), text).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut bosco = command(&operator, &fleet, &[args, &["--on", "host1"]].concat());
    let path = bosco.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), path.to_string_lossy());
    Said::of(&bosco.env("PATH", path).output().unwrap())
}

#[test]
fn no_control_character_of_a_host_reaches_the_terminal() {
    let said = against(
        "printf 'bosco 1\\nuser 0\\nnixos yes\\nnix \\033[2J9\\nsystem \\033]52;c;ZXZpbA==\\007arm\\n\\ndone 0\\n'; cat >/dev/null",
        &["apply"],
    );
    let said = said.exits(4).says("its configuration is for x86_64-linux");
    assert!(!said.out.contains(['\x1b', '\x07']) && !said.err.contains(['\x1b', '\x07']), "{}", said.err);
}

#[test]
fn a_host_gets_no_path_that_it_was_not_asked_about() {
    // It names a path of the operator's store that is none of its own closure, and takes whatever comes.
    let other = format!("/nix/store/{}-secret", "0".repeat(32));
    let script = format!(
        "printf '{HONEST}\\ndone 0\\n'; read -r verb; printf 'path {other}\\npath {other}\\n\\ndone 0\\n'; \
         read -r verb; echo \"$verb\" > \"$HOME/asked\"; printf '\\ndone 0\\n'; cat >/dev/null"
    );
    // Nothing that it may have is missing there: it is asked to go on, and never sent a path.
    against(&script, &["apply", "--goal", "push"]).exits(0).says("pushed").does_not_say("copying 1 paths");
}

#[test]
fn an_answer_without_end_is_given_up() {
    let started = Instant::now();
    against(&format!("printf '{HONEST}'; yes 'log x'"), &["status"]).exits(4).says("an answer without end");
    against("yes 'motd'", &["status"]).exits(4).says("it prints without end");
    against("head -c 300000000 /dev/zero", &["status"]).exits(4).says("the connection was lost");
    assert!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
}

#[test]
#[ignore = "takes two minutes: that is how long a host may say nothing while its connection lives"]
fn a_host_that_greets_and_then_says_nothing_is_given_up() {
    // Nothing at all; its greeting; half of what it is. Each is a run of its own, at the same time.
    let scripts = ["", "printf 'bosco 1\\n'; ", &format!("printf '{HONEST}'; ")];
    std::thread::scope(|scope| {
        for script in scripts {
            scope.spawn(move || {
                let started = Instant::now();
                against(&format!("{script}exec sleep 1000"), &["apply"])
                    .exits(4)
                    .says("it is connected and says nothing")
                    .says("hint: does `ssh");
                let took = started.elapsed();
                assert!(took < Duration::from_secs(150), "after `{script}` it was given up after {took:?}");
            });
        }
    });
}

#[test]
fn an_answer_that_means_nothing_is_told() {
    against(&format!("printf '{HONEST}\\ndone maybe\\n'; cat >/dev/null"), &["apply"])
        .exits(4)
        .says("gave an answer that can't be read")
        .says("hint:");
}

#[test]
fn a_host_where_the_user_does_not_become_root_is_told() {
    against("printf 'bosco 1\\nuser 1000\\n\\ndone 0\\n'; cat >/dev/null", &["apply"])
        .exits(4)
        .says("this user can't become root there")
        .says("deployment.privilegeEscalationCommand");
}

#[test]
fn a_machine_without_ssh_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let mut bosco = command(&operator, &fleet, &["apply"]);
    let path = bosco.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    let bin = operator.dir().join("few");
    std::fs::create_dir(&bin).unwrap();
    for program in ["nix", "git"] {
        let found =
            std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.exists()).unwrap();
        std::os::unix::fs::symlink(found, bin.join(program)).unwrap();
    }
    Said::of(&bosco.env("PATH", &bin).output().unwrap()).exits(1).says("`ssh` was not found");
}

//! A fleet is evaluated and built as its owner would expect, and mistakes in it are told; with real Nix, no machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use common::{bosco, command, json};
use testbed::Operator;
use testbed::fleet::sample;

/// The toplevel that `nix build` gives for an attribute of a flake.
fn nix_build(operator: &Operator, dir: &std::path::Path, attribute: &str) -> String {
    let mut nix = operator.command("nix");
    nix.args(["build", "--no-link", "--print-out-paths", &format!(".#{attribute}")]).current_dir(dir);
    let output = nix.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_plain_flake_gives_the_toplevels_that_nix_build_gives() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    for host in ["host1", "host2"] {
        let attribute = format!("nixosConfigurations.{host}.config.system.build.toplevel");
        let expected = nix_build(&operator, fleet.path(), &attribute);
        bosco(&operator, &fleet, &["build", "--on", host]).exits(0).says(&expected);
    }
}

#[test]
fn a_hive_gives_the_toplevels_that_nix_build_gives() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "hive").unwrap();
    for host in ["host1", "host2", "laptop"] {
        let attribute = format!("colmenaHive.nodes.{host}.config.system.build.toplevel");
        let expected = nix_build(&operator, fleet.path(), &attribute);
        bosco(&operator, &fleet, &["build", "--on", host]).exits(0).says(&expected);
    }
}

#[test]
fn a_hives_hosts_are_listed_as_the_hive_declares_them() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "hive").unwrap();
    let hosts = json(&operator, &fleet, &["hosts"]);
    assert_eq!(hosts[0]["name"], "host1");
    assert_eq!(hosts[0]["target"]["host"], "host1", "Colmena's default is the node's name");
    assert_eq!(hosts[0]["target"]["user"], "root");
    assert_eq!(hosts[1]["tags"], serde_json::json!(["canary", "web"]));
    assert_eq!(hosts[2]["target"], serde_json::Value::Null);
    assert_eq!(hosts[2]["system"], "x86_64-linux");
    let web = json(&operator, &fleet, &["hosts", "--on", "@web & !@can*"]);
    assert_eq!(web.as_array().unwrap().len(), 1, "{web}");
    assert_eq!(web[0]["name"], "host1");
}

#[test]
fn a_plain_flake_can_have_the_deployment_options_of_boscos_module() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let module = common::repository().join("nix/modules/deployment.nix");
    fleet.write("deployment.nix", &std::fs::read_to_string(module).unwrap()).unwrap();
    let host = |options: &str| {
        fleet.write("host1.nix", &format!("{{ imports = [ ./deployment.nix ]; {options} }}")).unwrap();
    };
    host("deployment.tags = [ \"web\" ]; deployment.targetPort = 2222;");
    let hosts = json(&operator, &fleet, &["hosts", "--on", "@web"]);
    assert_eq!(hosts[0]["target"]["host"], "host1", "without targetHost it is the host's name");
    assert_eq!(hosts[0]["target"]["port"], 2222);
    host("deployment.targetHost = null;");
    assert_eq!(json(&operator, &fleet, &["hosts", "--on", "host1"])[0]["target"], serde_json::Value::Null);
    host("deployment.targetPort = \"ssh\";");
    bosco(&operator, &fleet, &["hosts"]).exits(3).says("deployment.targetPort").says("is not of type");
}

#[test]
fn a_fleet_is_found_from_a_directory_below_it() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let below = fleet.path().join("deep/down");
    std::fs::create_dir_all(&below).unwrap();
    let output = command(&operator, &fleet, &["hosts"]).current_dir(&below).output().unwrap();
    common::Said::of(&output).exits(0).says("host2");
}

#[test]
fn a_directory_without_a_fleet_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let output = command(&operator, &fleet, &["apply"]).current_dir("/").output().unwrap();
    common::Said::of(&output).exits(2).says("there is no flake.nix or hive.nix in / or").says("hint:");
}

#[test]
fn a_flake_without_hosts_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("flake.nix", "{ outputs = { self }: { packages = { }; }; }").unwrap();
    bosco(&operator, &fleet, &["apply"])
        .exits(2)
        .says("none of `colmenaHive`, `colmena`")
        .says("it has packages");
    fleet.write("flake.nix", "{ outputs = { self }: { }; }").unwrap();
    bosco(&operator, &fleet, &["apply"]).exits(2).says("none of `colmenaHive`, `colmena`").says("hint:");
}

#[test]
fn a_syntax_error_in_one_hosts_file_names_file_and_line_and_holds_all_back() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("host1.nix", "{\n  networking.hostName = \"host1\"\n}\n").unwrap();
    bosco(&operator, &fleet, &["apply"])
        .exits(3)
        .says("host1: syntax error")
        .says("./host1.nix:3:1")
        .does_not_say("host2: syntax error");
}

#[test]
fn an_option_that_does_not_exist_is_told_with_its_file() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("host1.nix", "{ services.opensssh.enable = true; }").unwrap();
    bosco(&operator, &fleet, &["build"])
        .exits(3)
        .says("The option `services.opensssh' does not exist")
        .says("./host1.nix")
        .says("host2: built /nix/store/");
}

#[test]
fn a_mistake_that_hosts_share_is_told_once_with_their_names() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("common.nix", "{ services.opensssh.enable = true; }").unwrap();
    for command in
        [&["build"][..], &["hosts"], &["status"], &["diff"], &["generations"], &["exec", "*", "--", "true"]]
    {
        let said = bosco(&operator, &fleet, command).exits(3).says("host1, host2: The option");
        assert_eq!(said.err.matches("does not exist").count(), 1, "{command:?}: {}", said.err);
    }
}

#[test]
fn an_error_that_does_not_say_where_it_is_is_told_with_its_option_and_file() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("host1.nix", "{ environment.etc.y.text = throw \"y is not there\"; }").unwrap();
    let build = |more: &[&str]| bosco(&operator, &fleet, &[&["build", "host1"], more].concat()).exits(3);
    build(&[])
        .says("host1: y is not there")
        .says("environment.etc.y.text")
        .says("./host1.nix")
        .does_not_say("while evaluating attribute");
    build(&["--show-trace"]).says("while evaluating attribute").says("y is not there");
}

#[test]
fn a_host_that_is_deployed_on_itself_only_is_no_success_where_nothing_else_was_asked_for() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "hive").unwrap();
    bosco(&operator, &fleet, &["apply", "laptop"]).exits(5).says("itself only").does_not_say("connecting");
}

#[test]
fn an_answer_that_can_not_be_written_is_no_success() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&operator, &fleet, &["hosts"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_failed_assertion_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet
        .write("host1.nix", "{ assertions = [ { assertion = false; message = \"too few ducks\"; } ]; }")
        .unwrap();
    bosco(&operator, &fleet, &["build", "--on", "host1"])
        .exits(3)
        .says("Failed assertions")
        .says("too few ducks");
}

#[test]
fn a_build_that_fails_is_told_with_the_builders_last_words() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let broken = "{ pkgs, ... }: { environment.etc.x.source = pkgs.runCommand \"broken\" { } \"echo out of ducks; exit 3\"; }";
    fleet.write("host1.nix", broken).unwrap();
    bosco(&operator, &fleet, &["build"])
        .exits(3)
        .says("out of ducks")
        .says("exit code 3")
        .says("host2: built");
}

#[test]
fn a_file_that_git_does_not_know_is_told_with_what_to_do() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("host1.nix", "{ imports = [ ./new.nix ]; }").unwrap();
    std::fs::write(fleet.path().join("new.nix"), "{ }").unwrap();
    bosco(&operator, &fleet, &["build", "--on", "host1"]).exits(3).says("./new.nix").says("git add");
}

#[test]
fn a_selector_without_match_names_the_hosts_that_there_are() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "hive").unwrap();
    bosco(&operator, &fleet, &["apply", "--on", "host1,host9"])
        .exits(2)
        .says("no host is called `host9`")
        .says("did you mean `host1` or `host2`?");
    for (selector, hint) in [
        ("db-*", "the fleet has host1, host2, laptop"),
        ("@nowhere", "no host has the tag `@nowhere`; there are @canary, @web"),
        // Its own tags are all that was asked for.
        ("host1 & @canary", "the fleet has host1, host2, laptop"),
    ] {
        let said = bosco(&operator, &fleet, &["apply", "--on", selector]).exits(2);
        said.says(&format!("no host matches `{selector}`")).says(hint);
    }
}

#[test]
fn a_selector_that_can_not_be_read_is_told_with_its_place() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    bosco(&operator, &fleet, &["apply", "--on", "host1,"]).exits(2).says("missing at position 7");
}

#[test]
fn flakes_need_not_be_switched_on() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    // Nix reads its own setting of the registry only where flakes are on: with the lock file, none is needed.
    bosco(&operator, &fleet, &["hosts"]).exits(0);
    let nix = operator.command("nix");
    let (_, dir) = nix.get_envs().find(|(name, _)| *name == "NIX_CONF_DIR").unwrap();
    let conf = std::path::Path::new(dir.unwrap()).join("nix.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let off: String =
        text.lines().filter(|l| !l.contains("experimental-features")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&conf, off).unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(0).says("host1");
}

#[test]
fn a_machine_without_nix_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let output = command(&operator, &fleet, &["apply"]).env("PATH", "/nowhere").output().unwrap();
    common::Said::of(&output).exits(1).says("`nix` was not found").says("hint:");
}

#[test]
fn a_nix_that_is_too_old_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    // A stand-in that says an old version: no evaluation is to be reached.
    let bin = operator.dir().join("old");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("nix"), "#!/bin/sh\necho 'nix (Nix) 2.8.0'\n").unwrap();
    std::fs::set_permissions(bin.join("nix"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = command(&operator, &fleet, &["apply"]).env("PATH", &bin).output().unwrap();
    common::Said::of(&output).exits(1).says("the Nix here is 2.8").says("2.19");
}

#[test]
fn completions_and_man_pages_come_from_the_command_line_itself() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        bosco(&operator, &fleet, &["completions", shell]).exits(0).says("dry-activate");
    }
    bosco(&operator, &fleet, &["man", "man"]).exits(0);
    let page = std::fs::read_to_string(fleet.path().join("man/bosco-apply.1")).unwrap();
    assert!(page.contains("Exit codes") || page.contains("EXTRA"), "{page}");
}

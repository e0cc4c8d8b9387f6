//! Who can read a fleet's secrets is said and put right, and what is wrong with a fleet is found before a deploy; with
//! files of the real sops and a real Nix, no machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::path::{Path, PathBuf};

use common::{Said, command};
use serde_json::Value;
use testbed::Operator;
use testbed::fleet::{Fleet, create};

const ADA: &str = "age1cwy2zm53pz542yt754nse6xqj3c2tg6j8n0du74nsq0z9ygprghqepf689";
const GONE: &str = "age10vpxvwp6l0rcgwdza5ec2ct4rpz9vwqwpyetjellh7llr5afxf8q4kqjtx";

/// The options that are looked at, with the names of sops-nix.
const OPTIONS: &str = r#"{ lib, ... }:
{
  options.sops.secrets = lib.mkOption {
    default = { };
    type = lib.types.attrsOf (
      lib.types.submodule (
        { name, ... }:
        {
          options.sopsFile = lib.mkOption { type = lib.types.path; };
          options.format = lib.mkOption {
            type = lib.types.str;
            default = "yaml";
          };
          options.key = lib.mkOption {
            type = lib.types.str;
            default = name;
          };
        }
      )
    );
  };
  options.deployment.publicKeys = lib.mkOption { type = lib.types.listOf lib.types.str; };
}
"#;

const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations = builtins.mapAttrs (
        name: module:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            ./options.nix
            module
            { networking.hostName = name; }
          ];
        }
      ) (import ./hosts.nix);
    };
}
"#;

fn fixture(name: &str) -> String {
    std::fs::read_to_string(fixtures().join(name)).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sops")
}

/// `web` and `db`, and an operator. `more` is what `web` has besides.
fn hosts(more: &str) -> String {
    let host = |name: &str, secrets: &str, more: &str| {
        let key = fixture(&format!("{name}.pub"));
        let base = "services.openssh.enable = true;\n    system.stateVersion = \"26.05\";";
        format!(
            "  {name} = {{\n    {base}\n    deployment.publicKeys = [ \"{}\" ];\n{secrets}{more}  }};\n",
            key.trim()
        )
    };
    let password = "    sops.secrets.password = {\n      sopsFile = ./secrets/all.env;\n      format = \"dotenv\";\n    };\n";
    let token = "    sops.secrets.token.sopsFile = ./secrets/web.yaml;\n";
    format!("{{\n{}{}}}\n", host("db", password, ""), host("web", &format!("{password}{token}"), more))
}

fn fleet(operator: &Operator) -> Fleet<'_> {
    let fleet = create(operator, "fleet").unwrap();
    fleet.write("flake.nix", FLAKE).unwrap();
    fleet.write("options.nix", OPTIONS).unwrap();
    fleet.write("hosts.nix", &hosts("")).unwrap();
    fleet.write("secrets/web.yaml", &fixture("web.yaml")).unwrap();
    fleet.write("secrets/all.env", &fixture("all.env")).unwrap();
    let toml = format!("fleet = \"home\"\n\n[operators.ada]\nkeys = []\nrecipients = [\"{ADA}\"]\n");
    fleet.write("bosco.toml", &toml).unwrap();
    let own = format!(
        "# ours\nkeys:\n  - &server_gone {GONE}\ncreation_rules:\n  # the rest\n  - path_regex: secrets/.*\n    age: *server_gone\n"
    );
    fleet.write(".sops.yaml", &own).unwrap();
    fleet
}

/// `bosco ARGS` with ada's key, and with a `sops` that writes down what it is asked for: the real one where there is one,
/// else a script that has it
/// ready without who is gone.
fn ada(operator: &Operator, fleet: &Fleet<'_>, args: &[&str]) -> Said {
    let bin = operator.dir().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&paths).map(|dir| dir.join("sops")).find(|sops| sops.is_file());
    let does = match real {
        Some(sops) => format!("exec {} \"$@\"", sops.display()),
        None => {
            let anew = bin.join("anew");
            let key = fixture("web.pub");
            let values = [("token", "correct-Horse-battery-9")];
            std::fs::write(&anew, testbed::sops::encrypted(&values, &[ADA, key.trim()]).unwrap()).unwrap();
            format!("test \"$1\" = rotate || exit 0\ncp {} \"$4\"", anew.display())
        }
    };
    let script = format!("#!/bin/sh\necho \"$*\" >> {}/asked\n{does}\n", bin.display());
    std::fs::write(bin.join("sops"), script).unwrap();
    std::fs::set_permissions(bin.join("sops"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = command(operator, fleet, args);
    let path = path(&command);
    let mut with = bin.into_os_string();
    with.push(":");
    with.push(path);
    command.env("PATH", with).env("EDITOR", "true").env("SOPS_AGE_KEY_FILE", fixtures().join("ada.txt"));
    Said::of(&command.output().unwrap())
}

/// Where a command looks for programs.
fn path(command: &std::process::Command) -> std::ffi::OsString {
    command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned()
}

fn answer(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", said.out, said.err))
}

#[test]
fn who_can_read_what_is_listed_and_what_a_stolen_host_could_read() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let list = answer(&ada(&operator, &fleet, &["secrets", "list", "--json"]).exits(0));
    let of = |host: &str, file: &str| {
        let is = |line: &&Value| line["host"] == host && line["file"] == file;
        list.as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("{list}")).clone()
    };
    let web = of("web", "secrets/web.yaml");
    assert_eq!(web["asksFor"], serde_json::json!(["token"]));
    assert_eq!(web["canRead"], true);
    assert_eq!(web["operators"], serde_json::json!(["ada"]));
    assert!(web["others"][0].as_str().unwrap().starts_with("server_gone"), "{web}");
    assert_eq!(of("db", "secrets/all.env")["hosts"], serde_json::json!(["web"]));
    assert_eq!(list.as_array().unwrap().len(), 3);

    ada(&operator, &fleet, &["secrets", "list", "db"]).exits(0).says("host web").does_not_say("web.yaml");
    let stolen = ada(&operator, &fleet, &["secrets", "list", "--host", "web"]).exits(0);
    stolen.says("db/password").says("PASSWORD").says("token");
    ada(&operator, &fleet, &["secrets", "list", "--host", "wbe"]).exits(2).says("`web`");
}

#[test]
fn a_hive_without_flakes_is_looked_at_too() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "hive").unwrap();
    let options = OPTIONS.lines().filter(|line| !line.contains("publicKeys")).collect::<Vec<_>>().join("\n");
    fleet.write("machines/options.nix", &options).unwrap();
    let key = fixture("web.pub");
    let web = |more: &str| {
        format!(
            "{{ imports = [ ./options.nix ]; {more} sops.secrets.token.sopsFile = ../secrets/web.yaml; \
         deployment.publicKeys = [ \"{}\" ]; system.stateVersion = \"26.05\"; }}",
            key.trim()
        )
    };
    fleet.write("machines/hive.nix", &format!("{{ web = {}; }}", web(""))).unwrap();
    fleet.write("secrets/web.yaml", &fixture("web.yaml")).unwrap();
    let list = ada(&operator, &fleet, &["--hive", "machines", "secrets", "list"]).exits(0);
    list.says("secrets/web.yaml").says("yes").says("token");
    // Nobody says who its operators are.
    let check = ada(&operator, &fleet, &["--hive", "machines", "secrets", "check"]).exits(0);
    check.says("warning: secrets/web.yaml").says("operators.NAME");

    let clear = "deployment.keys.k.text = \"mother-in-Law-7\"; environment.etc.k.text = \"mother-in-Law-7\";";
    fleet.write("machines/hive.nix", &format!("{{ web = {}; }}", web(clear))).unwrap();
    let check = ada(&operator, &fleet, &["--hive", "machines", "check"]).exits(3);
    check.says("one of `deployment.keys` of web stands in clear in /nix/store/");
    ada(&operator, &fleet, &["--hive", "machines", "secrets", "show", "web", "k"])
        .exits(2)
        .says("`k` is one of the `deployment.keys` of web");
}

#[test]
fn a_secret_of_a_tree_is_found_behind_its_link() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "tree").unwrap();
    fleet.write("utils/options.nix", OPTIONS).unwrap();
    fleet.write("utils/web.yaml", &fixture("web.yaml")).unwrap();
    let key = fixture("web.pub");
    let web = format!(
        "{{ imports = [ ./utils/options.nix ]; sops.secrets.token.sopsFile = ./utils/web.yaml; \
         deployment.publicKeys = [ \"{}\" ]; system.stateVersion = \"26.05\"; }}",
        key.trim()
    );
    fleet.write("hosts/web/configuration.nix", &web).unwrap();
    std::os::unix::fs::symlink("../../utils", fleet.path().join("hosts/web/utils")).unwrap();
    ada(&operator, &fleet, &["secrets", "list"]).exits(0).says("utils/web.yaml").says("token");
    assert_eq!(ada(&operator, &fleet, &["secrets", "show", "web", "token"]).out, "correct-Horse-battery-9");
}

/// A file with the data key of another one, as that has it for ada, in all places.
fn with_data_key_of(file: &str, other: &str) -> String {
    const ENDS: (&str, &str) = ("-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----");
    let (_, ada) = other.split_once(ADA).unwrap();
    let body = &ada[ada.find(ENDS.0).unwrap() + ENDS.0.len()..ada.find(ENDS.1).unwrap()];
    // Lines with their indents, or the line ends of JSON.
    let body =
        if file.starts_with('{') { body.replace(' ', "").replace('\n', "\\n") } else { body.to_owned() };
    let parts: Vec<&str> = file.split(ENDS.0).collect();
    let behind = parts[1..].iter().map(|part| {
        let (_, rest) = part.split_once(ENDS.1).unwrap();
        format!("{}{body}{}{rest}", ENDS.0, ENDS.1)
    });
    format!("{}{}", parts[0], behind.collect::<String>())
}

#[test]
fn a_key_of_a_host_that_left_is_told_until_it_is_rekeyed() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let check = || ada(&operator, &fleet, &["secrets", "check"]);
    check().exits(3).says("secrets/web.yaml: it is encrypted to server_gone").says("1 to be put right");
    // What `.sops.yaml` says would give it back to whom it was taken from.
    let edit = || ada(&operator, &fleet, &["secrets", "edit", "secrets/web.yaml"]);
    edit().exits(3).says(".sops.yaml does not say who is to read secrets/web.yaml");
    let done = answer(&ada(&operator, &fleet, &["secrets", "rekey", "--json"]).exits(0));
    assert_eq!(done["written"], serde_json::json!([".sops.yaml"]));
    assert_eq!(done["rekeyed"].as_array().unwrap().len(), 1, "{done}");
    let asked = std::fs::read_to_string(operator.dir().join("bin/asked")).unwrap();
    assert_eq!(asked, format!("rotate --in-place --rm-age={GONE} ./secrets/web.yaml\n"));
    // With the key that the one who left has, nothing opens that is written from now on.
    let new = std::fs::read_to_string(fleet.path().join("secrets/web.yaml")).unwrap();
    assert!(!new.contains(GONE) && new.contains(ADA), "{new}");
    let known = with_data_key_of(&new, &fixture("web.yaml"));
    fleet.write("secrets/web.yaml", &known).unwrap();
    ada(&operator, &fleet, &["secrets", "show", "web", "token"]).exits(4).says("MAC");
    fleet.write("secrets/web.yaml", &new).unwrap();
    assert_eq!(ada(&operator, &fleet, &["secrets", "show", "web", "token"]).out, "correct-Horse-battery-9");
    let rules = std::fs::read_to_string(fleet.path().join(".sops.yaml")).unwrap();
    assert!(rules.starts_with("# ours\nkeys:\n  - &server_gone"), "{rules}");
    assert!(
        rules.contains("- path_regex: '^secrets/web\\.yaml$'") && rules.ends_with("age: *server_gone\n"),
        "{rules}"
    );
    check().exits(0).says("nothing is wrong");
    ada(&operator, &fleet, &["secrets", "rekey"])
        .exits(0)
        .says("every file is encrypted to whom it should be");
    edit().exits(0);
}

#[test]
fn a_secret_that_is_asked_for_and_not_there_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let more = "    sops.secrets.tokn.sopsFile = ./secrets/web.yaml;\n    sops.secrets.none.sopsFile = ./secrets/none.yaml;\n";
    fleet.write("hosts.nix", &hosts(more)).unwrap();
    fleet.write("secrets/none.yaml", "").unwrap();
    ada(&operator, &fleet, &["secrets", "check"])
        .exits(3)
        .says("secrets/web.yaml: web: the secret `tokn` is `tokn`, which is not in this file")
        .says("did you mean `token`?")
        .says("secrets/none.yaml: web: the secret `none` is to be in this file");

    // What Nix does not see, as git does not know it, and what sops has not encrypted.
    let run = operator
        .command("git")
        .current_dir(fleet.path())
        .args(["rm", "--quiet", "--cached", "secrets/web.yaml"])
        .status();
    assert!(run.unwrap().success());
    ada(&operator, &fleet, &["secrets", "check"]).exits(3).says("git does not know the file");
    fleet.write("secrets/none.yaml", "none: stands here in clear\n").unwrap();
    ada(&operator, &fleet, &["secrets", "check"])
        .exits(3)
        .says("secrets/none.yaml: web: the secret `none` can't be read: it stands there in clear");
}

#[test]
fn a_secret_is_shown_to_who_has_the_key_and_nothing_else() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    let said = ada(&operator, &fleet, &["secrets", "show", "web", "token"]).exits(0);
    assert_eq!(said.out, "correct-Horse-battery-9");
    let whole = ada(&operator, &fleet, &["secrets", "show", "db", "password"]).exits(0);
    assert_eq!(whole.out, "PASSWORD=staple-Battery-7\n");
    ada(&operator, &fleet, &["secrets", "show", "web", "tokn"]).exits(2).says("`token`");
    let without = command(&operator, &fleet, &["secrets", "show", "web", "token"]).output().unwrap();
    Said::of(&without).exits(4).says(ADA).does_not_say("correct");
    // Nor is there a sops.
    let mut rekey = command(&operator, &fleet, &["secrets", "rekey"]);
    let path = path(&rekey);
    let without = std::env::split_paths(&path).filter(|dir| !dir.join("sops").exists());
    let rekey = rekey.env("PATH", std::env::join_paths(without).unwrap()).output().unwrap();
    Said::of(&rekey).exits(2).says("`sops` was not found").says("nixpkgs#sops");
}

#[test]
fn a_check_finds_each_kind_of_mistake_and_puts_right_what_it_can() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("hosts.nix", &hosts("      boot.kernelParams = [ ];\n")).unwrap();
    fleet.write("secrets/new.yaml", "password: nothing\n").unwrap();
    fleet.write("notes.txt", &format!("\nAGE-SECRET-KEY-1{}\n", "Q".repeat(58))).unwrap();
    let said = ada(&operator, &fleet, &["check"]).exits(3);
    let said = said.says("hosts.nix:").says("it is not formatted");
    let said = said.says("secrets/web.yaml: it is encrypted to server_gone");
    let said = said.says("secrets/new.yaml: .sops.yaml says that sops encrypts it");
    said.says("notes.txt:2: a secret key of age stands here in clear").says("4 to be put right");
    let again = answer(&ada(&operator, &fleet, &["check", "--json"]));
    assert_eq!(again, answer(&ada(&operator, &fleet, &["check", "--json"])), "the order is the same");

    std::fs::remove_file(fleet.path().join("notes.txt")).unwrap();
    std::fs::remove_file(fleet.path().join("secrets/new.yaml")).unwrap();
    let fixed = answer(&ada(&operator, &fleet, &["check", "--fix", "--json"]).exits(0));
    // What the fleet's own rules say is left to who wrote them.
    assert_eq!(fixed["findings"].as_array().unwrap().len(), 1, "{fixed}");
    assert_eq!(
        (&fixed["findings"][0]["line"], &fixed["findings"][0]["level"]),
        (&3.into(), &"warning".into())
    );
    assert_eq!(
        fixed["fixed"],
        serde_json::json!([
            "hosts.nix: formatted",
            ".sops.yaml: written",
            "secrets/web.yaml: encrypted anew"
        ])
    );
    ada(&operator, &fleet, &["check"]).exits(0).says("nothing is wrong");
}

#[test]
fn a_check_names_hosts_that_do_not_evaluate_and_mistakes_in_the_fleets_file() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    fleet.write("hosts.nix", &hosts("    boot.nonsense = 1;\n")).unwrap();
    let said = ada(&operator, &fleet, &["check"]).exits(3);
    said.says("web: ").says("boot.nonsense").does_not_say("db: ").says("was not looked at");
    fleet.write("bosco.toml", "fleet = \"home\"\n[operator.ada]\nkeys = []\n").unwrap();
    ada(&operator, &fleet, &["check"])
        .exits(3)
        .says("bosco.toml:2: unknown field `operator`")
        .says("`operators`?");
}

#[test]
fn a_secret_in_what_is_to_be_built_is_found() {
    let operator = Operator::alone().unwrap();
    let fleet = fleet(&operator);
    ada(&operator, &fleet, &["secrets", "rekey"]).exits(0);
    let clear = "    environment.etc.token.text = \"token=correct-Horse-battery-9\";\n";
    fleet.write("hosts.nix", &hosts(clear)).unwrap();
    ada(&operator, &fleet, &["check"])
        .exits(3)
        .says("the value `token` of secrets/web.yaml stands in clear in /nix/store/")
        .does_not_say("correct-Horse");
}

//! A fleet is found where it is, in whichever form it comes, and is the same in each; with real Nix, no machines.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Said, bosco, command, json};
use testbed::Operator;
use testbed::fleet::{Fleet, create, sample};

/// The hive of the sample `colmena`, in the other forms.
const MADE: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.colmena.url = "colmena";
  outputs = { nixpkgs, colmena, ... }: {
    colmenaHive = colmena.lib.makeHive (import ./hosts.nix (import nixpkgs { system = "x86_64-linux"; }));
  };
}"#;
const PLAIN: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      pkgs = import nixpkgs { system = "x86_64-linux"; };
      hive = import ./hosts.nix pkgs;
      host = name: lib.nixosSystem {
        specialArgs = { inherit name; nodes = hosts; } // hive.meta.specialArgs // hive.meta.nodeSpecialArgs.${name} or { };
        modules = [
          { nixpkgs.pkgs = hive.meta.nodeNixpkgs.${name} or pkgs; }
          ./deployment.nix
          hive.defaults
        ] ++ lib.toList hive.${name};
      };
      hosts = lib.genAttrs [ "db" "web-1" "web-2" ] host;
    in { nixosConfigurations = hosts; };
}"#;
const WITHOUT_FLAKES: &str = r#"import ./hosts.nix (import <nixpkgs> { })"#;
/// A hive in a flake, around what a test wants in it.
const AROUND: [&str; 2] = [
    r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }:
    let pkgs = import nixpkgs { system = "x86_64-linux"; };
    in { colmena = "#,
    r#"; };
}"#,
];

/// A flake with this as its raw hive.
fn raw(hive: &str) -> String {
    AROUND.join(hive)
}

/// The toplevels of all hosts, by building them.
fn toplevels(operator: &Operator, fleet: &Fleet<'_>) -> BTreeMap<String, String> {
    let said = bosco(operator, fleet, &["build", "--json"]).exits(0);
    let events = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ended = events.filter(|event| event["event"] == "ended");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    ended.map(|event| (text(&event["host"]), text(&event["outcome"]["toplevel"]))).collect()
}

/// The form that the fleet is found in.
fn form(operator: &Operator, fleet: &Fleet<'_>) -> String {
    let said = bosco(operator, fleet, &["build", "--json", "--on", "db"]);
    let mut events = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let fleet = events.find(|event| event["event"] == "fleet");
    fleet.unwrap_or_else(|| panic!("{}", said.out))["form"].as_str().unwrap().to_owned()
}

/// `bosco ARGS` in a directory.
fn bosco_in(operator: &Operator, fleet: &Fleet<'_>, dir: &Path, args: &[&str]) -> Said {
    Said::of(&command(operator, fleet, args).current_dir(dir).output().unwrap())
}

#[test]
fn a_host_is_the_same_system_in_every_form() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "colmena").unwrap();
    assert_eq!(form(&operator, &fleet), "colmena");
    let expected = toplevels(&operator, &fleet);
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["db", "web-1", "web-2"]);
    let deployment = common::repository().join("nix/modules/deployment.nix");
    fleet.write("deployment.nix", &std::fs::read_to_string(deployment).unwrap()).unwrap();
    for (name, file, text) in [
        ("colmenaHive", "flake.nix", MADE),
        ("nixosConfigurations", "flake.nix", PLAIN),
        ("hive.nix", "hive.nix", WITHOUT_FLAKES),
    ] {
        fleet.write(file, text).unwrap();
        if file == "hive.nix" {
            std::fs::remove_file(fleet.path().join("flake.nix")).unwrap();
        }
        assert_eq!(form(&operator, &fleet), name);
        assert_eq!(toplevels(&operator, &fleet), expected, "{name}");
    }
}

#[test]
fn a_raw_hive_is_what_its_meta_and_its_modules_say() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "colmena").unwrap();
    let hosts = json(&operator, &fleet, &["hosts"]);
    assert_eq!(hosts[0]["target"]["host"], "db.example.org");
    assert_eq!(hosts[0]["target"]["port"], 2222);
    assert_eq!(hosts[1]["target"]["host"], "web-1", "Colmena's default is the node's name");
    assert_eq!(hosts[1]["tags"], serde_json::json!(["web"]));
    let etc = "node: node.config.environment.etc.greeting.text";
    let greetings = json(&operator, &fleet, &["eval", &format!("lib.mapAttrs (_: {etc}) nodes")]);
    assert_eq!(greetings["db"], "hello, old\n", "nodeNixpkgs");
    assert_eq!(greetings["web-1"], "hello, new\n", "specialArgs");
    assert_eq!(greetings["web-2"], "hello from the second, new\n", "nodeSpecialArgs");
}

#[test]
fn what_a_hive_says_of_how_a_host_is_deployed_is_read_whoever_evaluates_it() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "options").unwrap();
    let hive = r#"pkgs: {
      meta = { nixpkgs = pkgs; name = "mine"; description = "All that Colmena has for a host"; };
      plain = { system.stateVersion = "26.05"; };
      web = {
        system.stateVersion = "26.05";
        deployment = {
          targetHost = "10.0.0.7"; targetPort = 2222; targetUser = null;
          sshOptions = [ "-o" "ProxyJump=bastion" ];
          privilegeEscalationCommand = [ "doas" "--" ];
          allowLocalDeployment = true; buildOnTarget = true; replaceUnknownProfiles = false;
          tags = [ "web" "eu-west" ];
        };
      };
    }"#;
    fleet.write("hosts.nix", hive).unwrap();
    for (flake, name) in [(MADE, "colmenaHive"), (&raw("import ./hosts.nix pkgs"), "colmena")] {
        fleet.write("flake.nix", flake).unwrap();
        let hosts = json(&operator, &fleet, &["hosts"]);
        let (plain, web) = (&hosts[0], &hosts[1]);
        let target = &web["target"];
        assert_eq!((&target["host"], &target["port"]), (&"10.0.0.7".into(), &2222.into()), "{name}: {hosts}");
        assert_eq!(target["user"], serde_json::Value::Null, "{name}: that is for ssh to say");
        assert_eq!(target["sshOptions"], serde_json::json!(["-o", "ProxyJump=bastion"]), "{name}");
        assert_eq!(target["privilege"], serde_json::json!(["doas", "--"]), "{name}");
        assert_eq!(web["tags"], serde_json::json!(["eu-west", "web"]), "{name}");
        let flags = ["allowLocalDeployment", "buildOnTarget", "replaceUnknownProfiles"];
        assert_eq!(flags.map(|flag| web[flag].as_bool()), [true, true, false].map(Some), "{name}");
        assert_eq!(flags.map(|flag| plain[flag].as_bool()), [false, false, true].map(Some), "{name}");
        assert_eq!((&plain["target"]["host"], &plain["target"]["user"]), (&"plain".into(), &"root".into()));
        assert_eq!(plain["target"]["privilege"], serde_json::json!(["sudo", "-H", "--"]), "{name}");
    }
    for (selector, count) in [("w*", 1), ("@eu-*", 1), ("plain,@web", 2)] {
        let on = json(&operator, &fleet, &["hosts", "--on", selector]);
        assert_eq!(on.as_array().unwrap().len(), count, "{selector}: {on}");
    }
}

#[test]
fn a_hive_that_another_colmena_has_made_is_refused_with_both_schemas() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "newer").unwrap();
    let made = "colmenaHive = { __schema = \"v9\"; nodes = { }; metaConfig = { }; introspect = f: f { }; };";
    fleet.write("flake.nix", &format!("{{ outputs = _: {{ {made} }}; }}")).unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(2).says("`colmenaHive` has schema v9, bosco reads v0.5");
}

#[test]
fn a_hive_that_came_from_nixops_is_deployed_as_it_is() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    let hosts = json(&operator, &fleet, &["hosts"]);
    assert_eq!(hosts[0]["target"]["host"], "mail.example.org");
    assert_eq!(hosts[1]["tags"], serde_json::json!(["web"]));
    let built = toplevels(&operator, &fleet);
    assert_eq!(built.keys().collect::<Vec<_>>(), ["mail", "web"]);
    let mail = bosco(&operator, &fleet, &["eval", "nodes.web.config.environment.etc.mail.text"]);
    mail.exits(0).says("\"mail\"");
}

#[test]
fn what_only_nixops_could_make_is_told_by_its_option() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "machines").unwrap();
    let web = "{ deployment.targetEnv = \"libvirtd\"; system.stateVersion = \"26.05\"; }";
    fleet.write("network.nix", &format!("{{ network.description = \"x\"; web = {web}; }}")).unwrap();
    bosco(&operator, &fleet, &["build", "--hive", "network.nix"])
        .exits(3)
        .says("web: The option `deployment.targetEnv' does not exist");
}

#[test]
fn a_hive_without_flakes_may_be_a_function_and_pin_its_nixpkgs_in_any_way() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "pins").unwrap();
    let mut built = Vec::new();
    for nixpkgs in
        ["", "nixpkgs = <nixpkgs>;", "nixpkgs = import <nixpkgs>;", "nixpkgs = import <nixpkgs> { };"]
    {
        let hive =
            format!("{{ ... }}: {{ meta = {{ {nixpkgs} }}; web = {{ system.stateVersion = \"26.05\"; }}; }}");
        fleet.write("hive.nix", &hive).unwrap();
        built.push(toplevels(&operator, &fleet));
    }
    assert!(built.windows(2).all(|two| two[0] == two[1]), "{built:?}");
}

#[test]
fn a_raw_hives_keys_make_the_system_that_the_stand_in_for_colmena_makes() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "colmena").unwrap();
    let keys = r#"{
      system.stateVersion = "26.05";
      deployment.buildOnTarget = false;
      deployment.replaceUnknownProfiles = true;
      deployment.allowLocalDeployment = true;
      deployment.keys.early = { text = "secret"; user = "nobody"; permissions = "0440"; };
      deployment.keys.late = { keyCommand = [ "pass" "late" ]; destDir = "/var/keys"; uploadAt = "post-activation"; };
      deployment.keys.filed = { name = "file.key"; keyFile = "/home/me/key"; };
    }"#;
    let hive = format!("pkgs: {{ meta.nixpkgs = pkgs; db = {keys}; }}");
    fleet.write("hosts.nix", &hive).unwrap();
    let expected = toplevels(&operator, &fleet);
    fleet.write("flake.nix", MADE).unwrap();
    assert_eq!(form(&operator, &fleet), "colmenaHive");
    assert_eq!(toplevels(&operator, &fleet), expected);
    let closure = operator.nix(["store", "ls", "--recursive", &expected["db"]]).unwrap();
    assert!(closure.contains("activate"), "{closure}");
    let activate = operator.store().join(expected["db"].trim_start_matches('/')).join("activate");
    let activate = std::fs::read_to_string(activate).unwrap();
    assert!(activate.contains("chown nobody:root \"/run/keys/early\""), "{activate}");
    assert!(activate.contains("/run/keys/file.key") && !activate.contains("/var/keys/late"), "{activate}");
    assert!(!activate.contains("secret"), "a key's text is nothing for the store");
    let unit = "nodes.db.config.systemd.paths.late-key.pathConfig.PathExists";
    bosco(&operator, &fleet, &["eval", unit]).exits(0).says("\"/var/keys/late\"");
}

#[test]
fn a_key_with_two_sources_or_none_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "keys").unwrap();
    for sources in ["", "text = \"x\"; keyFile = \"/x\";"] {
        let hive = format!("{{ meta.nixpkgs = pkgs; db.deployment.keys.k = {{ {sources} }}; }}");
        fleet.write("flake.nix", &raw(&hive)).unwrap();
        bosco(&operator, &fleet, &["build"]).exits(3).says("Exactly one of `db.deployment.keys.k.text`");
    }
}

#[test]
fn a_flake_is_taken_by_its_reference_from_anywhere() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let path = fleet.path().to_str().unwrap();
    let elsewhere = operator.dir().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for reference in [path, "../plain", &format!("git+file://{path}"), &format!("path:{path}")] {
        bosco_in(&operator, &fleet, &elsewhere, &["hosts", "--flake", reference]).exits(0).says("host2");
    }
    bosco_in(&operator, &fleet, &elsewhere, &["--flake", "../plain", "build", "--on", "host1"])
        .exits(0)
        .says("built /nix/store/");
    // A reference wins over what lies in the working directory, and need not name files at all.
    let other = sample(&operator, "hive").unwrap();
    bosco_in(&operator, &fleet, other.path(), &["hosts", "--flake", "../plain"]).does_not_say("laptop");
    bosco_in(&operator, &fleet, &elsewhere, &["hosts", "--flake", "nixpkgs"])
        .exits(2)
        .says("none of `colmenaHive`, `colmena`, `deploy` and `nixosConfigurations`");
    bosco_in(&operator, &fleet, &elsewhere, &["hosts", "--flake", "colmena"])
        .exits(3)
        .says("cannot write modified lock file")
        .says("nix flake lock");
}

#[test]
fn a_mistake_in_a_flake_elsewhere_is_told_with_the_file_and_not_its_copy() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("host1.nix", "{\n  networking.hostName = \"host1\"\n}\n").unwrap();
    bosco_in(&operator, &fleet, Path::new("/"), &["build", "--flake", fleet.path().to_str().unwrap()])
        .exits(3)
        .says("./host1.nix:3:1")
        .does_not_say("-source/host1.nix");
}

#[test]
fn a_part_of_a_flake_is_refused_with_the_selector_to_use() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    bosco(&operator, &fleet, &["apply", "--flake", ".#host1"])
        .exits(2)
        .says("`.#host1` names a part of a flake")
        .says("--flake . --on host1");
}

#[test]
fn a_hive_is_taken_by_its_file_or_directory_from_anywhere() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    std::fs::copy(fleet.path().join("hive.nix"), fleet.path().join("other.nix")).unwrap();
    for hive in ["../legacy-hive", "../legacy-hive/hive.nix", "../legacy-hive/other.nix"] {
        let elsewhere = sample(&operator, "plain").unwrap();
        bosco_in(&operator, &fleet, elsewhere.path(), &["hosts", "--hive", hive]).exits(0).says("mail");
        std::fs::remove_dir_all(elsewhere.path()).unwrap();
    }
    bosco(&operator, &fleet, &["hosts", "--hive", "nowhere.nix"]).exits(2).says("nowhere.nix").says("hint:");
}

#[test]
fn a_flake_and_a_hive_exclude_one_another() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    bosco(&operator, &fleet, &["hosts", "--flake", ".", "--hive", "."]).exits(2).says("--hive");
    bosco(&operator, &fleet, &["--flake", ".", "hosts", "--hive", "."]).exits(2).says("--hive");
}

#[test]
fn the_nearest_directory_wins_and_in_it_the_flake() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    let hive = "{ inner = { system.stateVersion = \"26.05\"; }; }";
    let below = fleet.path().join("deep/down");
    std::fs::create_dir_all(&below).unwrap();
    fleet.write("hive.nix", hive).unwrap();
    bosco_in(&operator, &fleet, &below, &["hosts"]).exits(0).says("host1").does_not_say("inner");
    fleet.write("deep/hive.nix", hive).unwrap();
    bosco_in(&operator, &fleet, &below, &["hosts"]).exits(0).says("inner").does_not_say("host1");
}

#[test]
fn a_flake_without_hosts_beside_a_hive_is_told_how_to_take_the_hive() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    fleet.write("flake.nix", "{ outputs = _: { packages = { }; }; }").unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(2).says("the flake has none of").says("`--hive hive.nix`");
    bosco(&operator, &fleet, &["hosts", "--hive", "hive.nix"]).exits(0).says("mail");
}

#[test]
fn what_is_wrong_with_a_hive_is_told_with_what_to_do() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "wrong").unwrap();
    for (hive, code, why, hint) in [
        ("{ meta.nixpkgs = pkgs; network = { }; }", 3, "both `meta` and `network`", "keep `meta`"),
        ("{ meta.nixpkgs = nixpkgs; a = { }; }", 3, "`meta.nixpkgs` is a flake", "import nixpkgs { system"),
        (
            "{ meta.nixpkgs = import nixpkgs; a = { }; }",
            3,
            "`meta.nixpkgs` is a function",
            "import nixpkgs { system",
        ),
        ("{ meta.nixpkgs = ./.; a = { }; }", 3, "`meta.nixpkgs` is a path", "import nixpkgs { system"),
        ("{ a = { }; }", 3, "does not set `meta.nixpkgs`", "import nixpkgs { system"),
        (
            "{ meta = { nixpkgs = pkgs; alowApplyAll = false; }; }",
            3,
            "`alowApplyAll' does not exist",
            "In `meta'",
        ),
        (
            "{ meta = { nixpkgs = pkgs; allowApplyAll = 1; }; }",
            3,
            "`allowApplyAll' is not of type",
            "boolean",
        ),
        ("{ meta.nixpkgs = pkgs; \"a b\" = { }; }", 2, "a host's name can't be used", "rename it"),
        ("[ ]", 3, "no attribute set", "a hive is"),
        ("{ __schema = \"v0.5\"; }", 3, "evaluated already", "`colmenaHive`"),
        (
            "{ meta = { nixpkgs = pkgs; nodeNixpkgs.a = nixpkgs; }; a = { }; }",
            3,
            "`meta.nodeNixpkgs.a` is a flake",
            "a:",
        ),
    ] {
        fleet.write("flake.nix", &raw(hive)).unwrap();
        bosco(&operator, &fleet, &["build"]).exits(code).says(why).says(hint);
    }
}

#[test]
fn a_broken_node_of_a_hive_holds_up_only_what_needs_it() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    fleet.write("mail.nix", "{ services.opensssh.enable = true; }").unwrap();
    // What `web` asks of it is not what is wrong with it.
    bosco(&operator, &fleet, &["build", "--on", "web"]).exits(0);
    bosco(&operator, &fleet, &["build"]).exits(3).says("mail: ").says("`services.opensssh' does not exist");
    let hive = std::fs::read_to_string(fleet.path().join("hive.nix")).unwrap();
    fleet.write("hive.nix", "{ web.x = 1; }").unwrap();
    bosco(&operator, &fleet, &["build"]).exits(3).says("The option `x' does not exist").says("In `the hive'");
    fleet.write("hive.nix", &hive).unwrap();
    fleet.write("mail.nix", "throw \"no mail today\"").unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(3).says("no mail today").says("@web");
}

#[test]
fn a_hive_file_that_is_no_hive_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "wrong").unwrap();
    fleet.write("hive.nix", "[ ./web.nix ]").unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(3).says("no attribute set").says("of type list");
    fleet.write("hive.nix", "{\n  web = { }\n}").unwrap();
    bosco(&operator, &fleet, &["hosts"]).exits(3).says("syntax error").says("hive.nix:3:1");
}

#[test]
fn a_hive_without_any_nixpkgs_is_told() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "legacy-hive").unwrap();
    let output = command(&operator, &fleet, &["hosts"]).env("NIX_PATH", "x=/nowhere").output().unwrap();
    Said::of(&output).exits(3).says("'nixpkgs' was not found in the Nix search path").says("`meta.nixpkgs`");
}

#[test]
fn a_hive_that_is_not_to_be_applied_as_a_whole_is_not() {
    let operator = Operator::alone().unwrap();
    let fleet = create(&operator, "careful").unwrap();
    let meta = "meta = { allowApplyAll = false; nixpkgs = ";
    fleet.write("hive.nix", &format!("{{ {meta} <nixpkgs>; }}; a = {{ }}; }}")).unwrap();
    bosco(&operator, &fleet, &["apply"])
        .exits(2)
        .says("not to be applied as a whole")
        .says("say which hosts");
    fleet.write("flake.nix", &raw(&format!("{{ {meta} pkgs; }}; a = {{ }}; }}"))).unwrap();
    bosco(&operator, &fleet, &["apply"])
        .exits(2)
        .says("not to be applied as a whole")
        .says("say which hosts");
    bosco(&operator, &fleet, &["hosts"]).exits(0);
}

#[test]
fn an_expression_sees_nodes_lib_and_pkgs_in_every_form() {
    let operator = Operator::alone().unwrap();
    for (name, host) in [("plain", "host1"), ("hive", "host1"), ("colmena", "db"), ("legacy-hive", "mail")] {
        let fleet = sample(&operator, name).unwrap();
        let name_of = format!("nodes.{host}.config.networking.hostName");
        let eval = |expression: &str| bosco(&operator, &fleet, &["eval", expression]).exits(0).out;
        assert_eq!(eval(&name_of), format!("\"{host}\"\n"));
        assert_eq!(eval(&format!("{{ nodes, ... }}: {name_of}")), format!("\"{host}\"\n"));
        assert_eq!(eval("lib.isFunction lib.mkIf && pkgs ? hello"), "true\n");
        let names = json(&operator, &fleet, &["eval", "{ nodes, lib, pkgs }: lib.attrNames nodes"]);
        assert!(names.as_array().unwrap().contains(&host.into()), "{names}");
    }
}

#[test]
fn a_mistake_in_an_expression_is_told_with_its_place() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    bosco(&operator, &fleet, &["eval", "1 +"]).exits(3).says("syntax error").says("at the expression:1:4");
    bosco(&operator, &fleet, &["eval", "nodes.host9"])
        .exits(3)
        .says("'host9' missing")
        .says("the expression:1:1");
    bosco(&operator, &fleet, &["eval", "nose"]).exits(3).says("undefined variable 'nose'");
    fleet.write("flake.nix", "{ outputs = _: { }; }").unwrap();
    bosco(&operator, &fleet, &["eval", "nodes"]).exits(3).says("the flake declares no hosts");
}

#[test]
fn an_expression_can_come_from_the_standard_input() {
    let operator = Operator::alone().unwrap();
    let fleet = sample(&operator, "plain").unwrap();
    fleet.write("question", "lib.attrNames\n  nodes # \"${").unwrap();
    let question = std::fs::File::open(fleet.path().join("question")).unwrap();
    let output = command(&operator, &fleet, &["eval", "-"]).stdin(question).output().unwrap();
    let said = Said::of(&output).exits(0);
    assert_eq!(said.out, "[ \"host1\" \"host2\" ]\n");
}

//! The library of micronix keeps its promises, asked by a real Nix: the values and the errors of the module system, and
//! configurations and hives as people write them. The expected values are nixpkgs' own (see micronix/tests/lib.nix).

#![allow(clippy::unwrap_used, reason = "tests may fail loudly, in their helpers too")]

use std::process::Output;
use std::time::Duration;
use testbed::{Operator, run};

/// Far more than any evaluation here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// What each expression of `errors` in tests/lib.nix must be told, word for word as nixpkgs' own library says it.
const ERRORS: &[(&str, &str)] = &[
    (
        "undeclared",
        "The option `nmae' does not exist. Definition values:\n\
         - In `f.nix': 1\n\
         \n\
         Did you mean `name'?",
    ),
    (
        "undeclared-below",
        "The option `a.enabel' does not exist. Definition values:\n\
         - In `f.nix': true\n\
         \n\
         Did you mean `a.enable' or `a.other'?",
    ),
    (
        "nothing-declared",
        "The option `x' does not exist. Definition values:\n\
         - In `f.nix': 1\n\
         \n\
         It seems as if you're trying to declare an option by placing it into `config' rather than `options'!",
    ),
    (
        "wrong-type",
        "A definition for option `x' is not of type `signed integer'. Definition values:\n\
         - In `<unknown-file>': \"a\"",
    ),
    (
        "wrong-list",
        "A definition for option `x' is not of type `list of signed integer'. TypeError: Definition values:\n\
         - In `<unknown-file>': 1",
    ),
    (
        "wrong-element",
        "A definition for option `x.\"[definition 1-entry 2]\"' is not of type `signed integer'. Definition values:\n\
         - In `<unknown-file>': \"a\"",
    ),
    (
        "wrong-either",
        "A definition for option `x' is not of type `signed integer or boolean'. TypeError: The option `x` is neither \
         a value of type `signed integer` nor `boolean`, Definition values:\n\
         - In `<unknown-file>': \"a\"",
    ),
    (
        "wrong-long",
        "A definition for option `x' is not of type `signed integer'. Definition values:\n\
         - In `<unknown-file>':\n    {\n      a = 1;\n      b = 2;\n      c = 3;\n      d = 4;\n    ...",
    ),
    (
        "conflict",
        "The option `x' has conflicting definition values:\n\
         - In `<unknown-file>': \"b\"\n\
         - In `<unknown-file>': \"a\"\n\
         Use `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.",
    ),
    (
        "not-unique",
        "The option `x' is defined multiple times while it's expected to be unique.\n\
         \n\
         Definition values:\n\
         - In `<unknown-file>': \"a\"\n\
         - In `<unknown-file>': \"a\"\n\
         Use `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.",
    ),
    (
        "null-and-not",
        "The option `x` is defined both null and not null, in `<unknown-file>' and `<unknown-file>'.",
    ),
    ("undefined", "The option `a.x' was accessed but has no value defined. Try setting the option."),
    (
        "read-only",
        "The option `x' is read-only, but it's set multiple times. Definition values:\n\
         - In `<unknown-file>': 1\n\
         - In `<unknown-file>': 2",
    ),
    ("declared-twice", "The option `x' in `<unknown-file>' is already declared in `<unknown-file>'."),
    (
        "below-an-option",
        "The option `x' in module `<unknown-file>' would be a parent of the following options, but its type `signed \
         integer' does not support nested options.\n - option(s) with prefix `x.y' in module `<unknown-file>'",
    ),
    (
        "not-a-set",
        "In module `f.nix', you're trying to define a value of type `int'\n\
         rather than an attribute set for the option\n\
         `a'!",
    ),
    ("mixed-module", "Module `:anon-1' has an unsupported attribute `y'."),
    ("missing-argument", "attribute 'nope' missing"),
    ("recursion", "infinite recursion encountered"),
    ("removed", "The option `x' can no longer be used since it's been removed. Use y."),
    ("failed-assertions", "Failed assertions:\n- one\n- two"),
    ("condition", "‘mkIf’ called with a non-Boolean condition"),
];

/// Evaluates an attribute of micronix/tests/lib.nix, to JSON.
fn eval(operator: &Operator, attribute: &str) -> Output {
    let mut nix = operator.command("nix");
    nix.args([
        "eval",
        "--json",
        "--file",
        concat!(env!("CARGO_MANIFEST_DIR"), "/micronix/tests/lib.nix"),
        attribute,
    ]);
    run(&mut nix, LIMIT).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Nix' message without its own indentation.
fn error(output: &Output) -> String {
    let said = text(&output.stderr);
    let lines = said.lines().map(|line| line.strip_prefix("       ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes a flake into a folder of the operator's and evaluates one of its attributes.
fn eval_flake(operator: &Operator, name: &str, flake: &str, attribute: &str) -> Output {
    let folder = operator.dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("flake.nix"), flake).unwrap();
    let mut nix = operator.command("nix");
    nix.args(["eval", "--no-write-lock-file", "--json"])
        .arg(format!("path:{}#{attribute}", folder.display()));
    run(&mut nix, LIMIT).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "the evaluation failed:\n{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_library_gives_the_values_that_nixpkgs_gives() {
    let operator = Operator::alone().unwrap();
    let count = json(&eval(&operator, "count"));
    assert!(count.as_u64().unwrap() > 50, "only {count} cases: is micronix/tests/lib.nix whole?");
    let wrong = json(&eval(&operator, "wrong"));
    assert_eq!(wrong, serde_json::json!([]), "see the case of that name in micronix/tests/lib.nix");
}

#[test]
fn wrong_definitions_are_told_in_the_words_of_nixpkgs() {
    let operator = Operator::alone().unwrap();
    for (name, expected) in ERRORS {
        let output = eval(&operator, &format!("errors.{name}"));
        assert!(!output.status.success(), "{name} must fail, and gave {}", text(&output.stdout));
        let said = error(&output);
        assert!(said.contains(expected), "{name} must say\n{expected}\n\nand said\n{said}");
    }
}

#[test]
fn a_flake_says_nixos_system_and_gets_a_toplevel() {
    let operator = Operator::alone().unwrap();
    let flake = r#"{
      inputs.nixpkgs.url = "nixpkgs";
      outputs = { self, nixpkgs }: {
        nixosConfigurations.box = nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          specialArgs = { inherit self; };
          modules = [ ({ config, lib, pkgs, modulesPath, ... }: {
            imports = [ (modulesPath + "/profiles/minimal.nix") (modulesPath + "/installer/scan/not-detected.nix") ];
            options.mine.greeting = lib.mkOption { type = lib.types.str; default = "hello"; };
            config = {
              networking = { hostName = "box"; domain = "example.org"; firewall.allowedTCPPorts = [ 80 ]; };
              boot.loader.systemd-boot.enable = true;
              boot.loader.efi.canTouchEfiVariables = true;
              boot.initrd.availableKernelModules = [ "ahci" ];
              boot.kernel.sysctl."net.ipv4.ip_forward" = 1;
              fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
              swapDevices = [ { device = "/swap"; } ];
              time.timeZone = "Europe/Paris";
              i18n.defaultLocale = "fr_FR.UTF-8";
              console.keyMap = "fr";
              services.openssh = { enable = true; settings.PasswordAuthentication = false; };
              security.sudo.wheelNeedsPassword = false;
              nix.settings.experimental-features = [ "nix-command" "flakes" ];
              nix.gc = { automatic = true; dates = "weekly"; };
              nixpkgs.overlays = [ (final: prev: { mine = prev.hello.overrideAttrs (old: { pname = "mine"; }); }) ];
              users.users.anna = { isNormalUser = true; extraGroups = [ "wheel" ]; openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA" ]; };
              environment.systemPackages = with pkgs; [ mine git vim htop ];
              environment.etc."greeting".text = config.mine.greeting;
              programs.mtr.enable = true;
              documentation.enable = false;
              hardware.enableRedistributableFirmware = lib.mkDefault true;
              systemd.services.job = { startAt = "daily"; path = [ pkgs.hello ]; script = "hello"; };
              specialisation.other.configuration.mine.greeting = "other";
              system.stateVersion = "25.05";
            };
          }) ];
        };
      };
    }"#;
    let output = eval_flake(
        &operator,
        "nixos-system",
        flake,
        "nixosConfigurations.box.config.system.build.toplevel.outPath",
    );
    let toplevel = json(&output);
    let toplevel = toplevel.as_str().unwrap();
    assert!(toplevel.contains("-nixos-system-box-"), "a toplevel's name has its host's: {toplevel}");
}

#[test]
fn assertions_end_an_evaluation_and_warnings_do_not() {
    let operator = Operator::alone().unwrap();
    let flake = |config: &str| {
        format!(
            r#"{{ inputs.nixpkgs.url = "nixpkgs"; outputs = {{ self, nixpkgs }}: {{
              top = (nixpkgs.lib.nixosSystem {{ system = "x86_64-linux"; modules = [ {{
                system.stateVersion = "25.05"; {config}
              }} ]; }}).config.system.build.toplevel.drvPath; }}; }}"#
        )
    };
    let failed = r#"assertions = [ { assertion = false; message = "not like this"; } ];"#;
    let output = eval_flake(&operator, "assertion", &flake(failed), "top");
    assert!(error(&output).contains("\nFailed assertions:\n- not like this"), "{}", error(&output));

    let output = eval_flake(&operator, "warning", &flake(r#"warnings = [ "have a care" ];"#), "top");
    assert!(output.status.success(), "{}", error(&output));
    assert!(error(&output).contains("evaluation warning: have a care"), "{}", error(&output));

    let output = eval_flake(&operator, "typo", &flake("services.opensssh.enable = true;"), "top");
    let expected = "The option `services.opensssh' does not exist. Definition values:\n- In `";
    assert!(error(&output).contains(expected), "{}", error(&output));
    assert!(error(&output).contains("Did you mean `services.openssh'"), "{}", error(&output));
}

#[test]
fn a_hive_is_what_colmena_makes_of_it() {
    let operator = Operator::alone().unwrap();
    let flake = r#"{
      inputs.nixpkgs.url = "nixpkgs";
      inputs.colmena.url = "colmena";
      inputs.colmena.inputs.nixpkgs.follows = "nixpkgs";
      outputs = { nixpkgs, colmena, ... }: rec {
        colmenaHive = colmena.lib.makeHive {
          meta = {
            nixpkgs = import nixpkgs { system = "x86_64-linux"; };
            description = "tests";
            specialArgs.word = "everyone";
            nodeSpecialArgs.b.own = "only-b";
          };
          defaults = { word, ... }: { system.stateVersion = "25.05"; deployment.tags = [ word ]; };
          a = { name, nodes, ... }: {
            networking.hostName = name;
            environment.etc.others.text = toString (builtins.attrNames nodes);
            deployment.keys.token = { text = "secret"; destDir = "/var/keys"; };
          };
          b = { own, ... }: { deployment = { tags = [ own ]; targetHost = null; allowLocalDeployment = true; }; };
        };
        seen = {
          inherit (colmenaHive) __schema metaConfig deploymentConfig;
          names = builtins.attrNames colmenaHive;
          systems = builtins.attrNames (colmenaHive.evalSelectedDrvPaths [ "a" ]);
          others = colmenaHive.nodes.a.config.environment.etc.others.text;
          nodes = colmenaHive.introspect ({ lib, pkgs, nodes }: lib.attrNames nodes);
        };
      };
    }"#;
    let seen = json(&eval_flake(&operator, "hive", flake, "seen"));
    assert_eq!(seen["__schema"], "v0.5");
    let expected = [
        "__schema",
        "deploymentConfig",
        "deploymentConfigSelected",
        "evalSelected",
        "evalSelectedDrvPaths",
        "introspect",
        "metaConfig",
        "nodes",
        "toplevel",
    ];
    assert_eq!(seen["names"], serde_json::json!(expected));
    let meta = serde_json::json!({
        "name": "hive", "description": "tests", "machinesFile": null, "allowApplyAll": true,
    });
    assert_eq!(seen["metaConfig"], meta);
    assert_eq!(seen["systems"], serde_json::json!(["a"]));
    assert_eq!(seen["others"], "a b");
    assert_eq!(seen["nodes"], serde_json::json!(["a", "b"]));
    let a = serde_json::json!({
        "targetHost": "a", "targetPort": null, "targetUser": "root", "allowLocalDeployment": false,
        "buildOnTarget": false, "tags": ["everyone"], "sshOptions": [], "replaceUnknownProfiles": true,
        "privilegeEscalationCommand": ["sudo", "-H", "--"],
        "keys": { "token": {
            "name": "token", "text": "secret", "keyFile": null, "keyCommand": null, "destDir": "/var/keys",
            "path": "/var/keys/token", "user": "root", "group": "root", "permissions": "0600",
            "uploadAt": "pre-activation",
        } },
    });
    assert_eq!(seen["deploymentConfig"]["a"], a);
    let b = &seen["deploymentConfig"]["b"];
    assert_eq!(
        (&b["targetHost"], &b["tags"]),
        (&serde_json::Value::Null, &serde_json::json!(["only-b", "everyone"]))
    );
}

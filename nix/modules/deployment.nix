# How bosco reaches a host and what selectors know it by: the options that Colmena declares too, with its defaults, for
# fleets that do not use Colmena. A hive has them already and must not import this. What is bosco's own is in
# `activation.nix`, which goes beside either.
{ lib, ... }:
let
  inherit (lib) mkOption types;

  key =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          description = "The name of the file.";
        };
        text = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "What is in it. Everybody who reads the configuration can read it.";
        };
        keyFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          # Not copied to the store, as a path in a text would be.
          apply = file: if file == null then null else toString file;
          description = "A file on the operator's machine that has it.";
        };
        keyCommand = mkOption {
          type = types.nullOr (types.addCheck (types.listOf types.str) (words: words != [ ]));
          default = null;
          description = "A command that prints it, run on the operator's machine.";
        };
        destDir = mkOption {
          type = types.path;
          default = "/run/keys";
          description = "The directory on the host.";
        };
        path = mkOption {
          type = types.path;
          default = "${config.destDir}/${config.name}";
          internal = true;
          description = "The file on the host.";
        };
        user = mkOption {
          type = types.str;
          default = "root";
          description = "The owner of the file.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "The group of the file.";
        };
        permissions = mkOption {
          type = types.str;
          default = "0600";
          description = "The mode of the file.";
        };
        uploadAt = mkOption {
          type = types.enum [
            "pre-activation"
            "post-activation"
          ];
          default = "pre-activation";
          description = "Whether it is there before the new system is activated, or only after.";
        };
      };
    };

  flag =
    default: description:
    mkOption {
      type = types.bool;
      inherit default description;
    };
in
{
  _file = "bosco/nix/modules/deployment.nix";

  options.deployment = {
    targetHost = mkOption {
      type = types.nullOr types.str;
      description = ''
        The name or address that `ssh` gets. null: the host is deployed on itself only. Where it is not set, the host's
        name in the fleet.
      '';
    };
    targetPort = mkOption {
      type = types.nullOr types.port;
      default = null;
      description = "The port of the host's sshd. null: ssh decides.";
    };
    targetUser = mkOption {
      type = types.nullOr types.str;
      default = "root";
      description = "Who to log in as. null: ssh decides.";
    };
    sshOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "-o"
        "ProxyJump=bastion"
      ];
      description = "Further arguments of `ssh`.";
    };
    privilegeEscalationCommand = mkOption {
      type = types.listOf types.str;
      default = [
        "sudo"
        "-H"
        "--"
      ];
      description = "What stands before a command to run it as root, where the user is not root.";
    };
    allowLocalDeployment = flag false "Whether the host may be deployed by `bosco apply-local`, which runs on itself.";
    buildOnTarget = flag false "Whether the host builds its system itself.";
    replaceUnknownProfiles = flag true ''
      Whether a system may be replaced that is neither in the store where `bosco apply` runs nor was brought to the host
      by bosco: somebody else may have deployed it.
    '';
    tags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "web" ];
      description = "What selectors know the host by: `@web`.";
    };
    keys = mkOption {
      type = types.attrsOf (types.submodule key);
      default = { };
      description = "Secrets, which go to the host beside its system and never into a store.";
    };
  };
}

# How bosco reaches a host and what selectors know it by: the options that Colmena declares too, with its defaults, for
# fleets that do not use Colmena. A hive has them already and must not import this. What is bosco's own is in
# `activation.nix`, which goes beside either.
{ lib, ... }:
let
  inherit (lib) mkOption types;

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
      description = "What stands before a command to run it as root, where the user is not root. It must not ask.";
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
  };
}

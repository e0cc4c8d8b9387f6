# How a host is brought to a new system, and what has to hold of it before it stays: what bosco adds to Colmena's options
# of `deployment`.
#
# It goes beside `deployment.nix` and beside Colmena's own options. What an activation asks for ends up in the system
# itself, in a file that the host reads: so a push, a pull and a rollback ask for the same. A host that sets none of it has
# no such file, and is the system that it is without this module. When and how a host updates is no part of any system:
# `nix/evaluate.nix` reads it, and a release tells the host.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.deployment;

  # Long enough for anything, short enough to be a mistake where it is passed.
  day = 24 * 60 * 60;
  seconds =
    default: description:
    mkOption {
      type = types.ints.between 1 day;
      inherit default description;
    };

  defaults = {
    activationTimeout = 600;
    confirmTimeout = 60;
    reboot = "never";
  };

  days = [
    "monday"
    "tuesday"
    "wednesday"
    "thursday"
    "friday"
    "saturday"
    "sunday"
  ];
  clock =
    description:
    mkOption {
      type = types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]";
      inherit description;
    };
  window = {
    options = {
      days = mkOption {
        type = types.listOf (types.enum days);
        default = [ ];
        example = [
          "saturday"
          "sunday"
        ];
        description = "On which days it begins. On every day where there are none.";
      };
      from = clock "When it begins, as `22:30`, by the host's local time.";
      to = clock "When it ends. One that ends before it begins goes past midnight.";
    };
  };

  kinds = [
    "unit"
    "http"
    "tcp"
    "command"
  ];
  # As `a`, `b` and `c`.
  listed =
    names:
    let
      quoted = map (name: "`${name}`") names;
    in
    if builtins.length names < 2 then
      lib.concatStrings quoted
    else
      "${lib.concatStringsSep ", " (lib.init quoted)} and ${lib.last quoted}";

  healthCheck = {
    options = {
      unit = mkOption {
        type = types.nullOr (types.strMatching "[a-zA-Z0-9:_.@\\-]+");
        default = null;
        example = "nginx";
        description = "A unit of systemd that has to be active. Without a suffix it is a service.";
      };
      http = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "http://127.0.0.1:8080/health";
        description = "A URL that the host itself asks for. An answer of 2xx or 3xx is healthy.";
      };
      tcp = mkOption {
        type = types.nullOr (types.either types.port types.str);
        default = null;
        example = 5432;
        description = "A port of 127.0.0.1, or `HOST:PORT`, that has to take a connection.";
      };
      command = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "test -e /run/app/ready";
        description = "A command for `/bin/sh -c`, run as root. The exit code 0 is healthy.";
      };
      timeout = seconds 5 "How many seconds one try may take.";
      interval = seconds 1 "How many seconds lie between a try that failed and the next.";
      retries = mkOption {
        type = types.ints.between 0 1000;
        default = 5;
        description = "How many tries there are after the first.";
      };
    };
  };

  # The types of units that systemd knows. What follows any other dot is part of a name.
  suffixes = [
    "automount"
    "device"
    "mount"
    "path"
    "scope"
    "service"
    "slice"
    "socket"
    "swap"
    "target"
    "timer"
  ];
  fullName =
    unit: if builtins.any (suffix: lib.hasSuffix ".${suffix}" unit) suffixes then unit else "${unit}.service";
  address = tcp: if builtins.isInt tcp then "127.0.0.1:${toString tcp}" else tcp;
  written =
    check:
    lib.filterAttrs (_: value: value != null) {
      inherit (check)
        http
        command
        timeout
        interval
        retries
        ;
      unit = lib.mapNullable fullName check.unit;
      tcp = lib.mapNullable address check.tcp;
    };

  long =
    index: window:
    {
      assertion = window.from != window.to;
      message = "`deployment.update.windows`: the ${toString index}. one begins and ends at ${window.from}, so it is never open. For any time leave `windows` empty.";
    };

  host = "([a-zA-Z0-9._-]+|\\[[0-9a-fA-F:.]+])";
  port = "[1-9][0-9]{0,4}";
  checked =
    name: check:
    let
      option = lib.showOption [
        "deployment"
        "healthChecks"
        name
      ];
      given = builtins.filter (kind: check.${kind} != null) kinds;
      isUrl = url: builtins.match "http://${host}(:${port})?([/?][^[:space:]]*)?" url != null;
      isAddress = tcp: builtins.match "${host}:${port}" tcp != null;
    in
    [
      {
        assertion = builtins.length given == 1;
        message =
          if given == [ ] then
            "`${option}` sets none of ${listed kinds}: a health check is exactly one of them."
          else
            "`${option}` sets ${listed given}: a health check is exactly one of ${listed kinds}.";
      }
      {
        assertion = check.http == null || isUrl check.http;
        message =
          "`${option}.http` is `${toString check.http}`, and has to be a URL that begins with `http://`."
          + lib.optionalString (lib.hasPrefix "https:" (toString check.http)) " For https take `tcp`, or a `command`.";
      }
      {
        assertion = check.tcp == null || isAddress (address check.tcp);
        message = "`${option}.tcp` is `${toString check.tcp}`, and has to be a port or `HOST:PORT`.";
      }
    ];
in
{
  _file = "bosco/nix/modules/activation.nix";
  # By this it is known for the same where a fleet imports it and bosco brings it along.
  key = "bosco/nix/modules/activation.nix";

  options.deployment = {
    healthChecks = mkOption {
      type = types.attrsOf (types.submodule healthCheck);
      default = { };
      example = {
        web.http = "http://127.0.0.1/";
        database.unit = "postgresql";
      };
      description = "What has to hold on the host, while it runs a new system, for that to stay.";
    };
    publicKeys = mkOption {
      type = types.listOf (types.strMatching "(ssh-ed25519|ecdsa-sha2-nistp256) [A-Za-z0-9+/]+=*( .*)?");
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… web" ];
      description = ''
        The host's own public keys, as in its `/etc/ssh/ssh_host_ed25519_key.pub`: by them a hub knows it. Two while one
        replaces the other. Where there are none, the hub goes by the key that it was let in with.
      '';
    };
    after = mkOption {
      type = types.listOf (types.strMatching "@?[a-zA-Z0-9_.*?-]+");
      default = [ ];
      example = [
        "db-1"
        "@database"
      ];
      description = ''
        Hosts, or `@tags` of hosts, that a push brings to their new systems before this one. It is not touched before they
        are done, and not at all where one of them failed. Hosts that are not selected, or that pull, are not waited for.
      '';
    };
    update = {
      mode = mkOption {
        type = types.enum [
          "push"
          "pull"
          "both"
        ];
        default = "push";
        description = ''
          How a new system comes to the host: an operator brings it (`push`), its agent fetches what a release says
          (`pull`), or either (`both`). The last two take `services.bosco.agent.enable`, with which `both` is the default.
        '';
      };
      interval = seconds 900 ''
        How many seconds the host's agent waits before it asks the hub again, where the hub can't tell it of a release at
        once.
      '';
      windows = mkOption {
        type = types.listOf (types.submodule window);
        default = [ ];
        example = [
          {
            days = [ "saturday" ];
            from = "22:00";
            to = "04:00";
          }
        ];
        description = "When the host may update by itself. At any time where there are none. A push heeds none of them.";
      };
      onBattery = mkOption {
        type = types.bool;
        default = true;
        description = "Whether the host may update by itself while it runs on battery.";
      };
      onMetered = mkOption {
        type = types.bool;
        default = true;
        description = "Whether the host may fetch by itself over a line that is paid by volume.";
      };
      activationTimeout = seconds defaults.activationTimeout ''
        How many seconds a new system may take from the beginning of its activation until it is proven, before the host
        goes back to the one before.
      '';
      confirmTimeout = seconds defaults.confirmTimeout ''
        How many seconds after the switch a fresh connection to the host has to be there, before it goes back to the
        system before.
      '';
      reboot = mkOption {
        type = types.enum [
          "never"
          "when-needed"
        ];
        default = defaults.reboot;
        description = ''
          Whether the host reboots by itself for a change that only a reboot brings in: of its kernel, its initrd or its
          init.
        '';
      };
    };
  };

  config = {
    assertions =
      lib.concatLists (lib.mapAttrsToList checked cfg.healthChecks)
      ++ lib.imap1 long cfg.update.windows
      ++ [
        {
          assertion = cfg.update.mode == "push" || config.services.bosco.agent.enable or false;
          message =
            "`deployment.update.mode` is `${cfg.update.mode}`, and nothing on the host would fetch a release: import "
            + "bosco's module `agent` and set `services.bosco.agent.enable`, or let the mode be `push`.";
        }
      ];

    environment.etc =
      let
        update = builtins.intersectAttrs defaults cfg.update;
      in
      lib.mkIf (cfg.healthChecks != { } || update != defaults) {
        "bosco/activation.json".text = builtins.toJSON (
          update
          // {
            version = 1;
            healthChecks = lib.mapAttrs (_: written) cfg.healthChecks;
          }
        );
      };
  };
}

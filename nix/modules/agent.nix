# bosco's agent on a host: it fetches what the fleet's releases say, and activates it.
#
# To import it changes nothing. It goes beside `deployment.nix`, beside Colmena's options, or alone.
{
  config,
  lib,
  options,
  pkgs,
  ...
}@args:
let
  inherit (lib) mkOption types;
  cfg = config.services.bosco.agent;
  inherit (pkgs.stdenv.hostPlatform) system;
  always = cfg.timer == null;
  # Whom the host trusts: it is there once a hub has let the host in.
  trust = "/nix/var/bosco/trust.json";

  arguments = [
    "agent"
    "--host"
    cfg.host
    "--identity"
    cfg.identity
    "--helper"
    cfg.helper
  ]
  ++ lib.optionals always (
    if cfg.page.enable then
      [
        "--page-port"
        (toString cfg.page.port)
      ]
    else
      [ "--no-page" ]
  )
  ++ lib.optional (!always) "--once";
in
{
  _file = "bosco/nix/modules/agent.nix";
  # By this it is known for the same where a fleet imports it and bosco brings it along.
  key = "bosco/nix/modules/agent.nix";

  options.services.bosco.agent = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether the host fetches and activates what the fleet's releases say, by itself.";
    };
    package = mkOption {
      type = types.package;
      description = "The package of bosco.";
    };
    helper = mkOption {
      type = types.str;
      default = "${cfg.package}/libexec/bosco/helpers/${system}/bosco-helper/bin/bosco";
      defaultText = lib.literalExpression ''"''${package}/libexec/bosco/helpers/SYSTEM/bosco-helper/bin/bosco"'';
      description = "The program that carries activations out: the helper for this kind of machine.";
    };
    identity = mkOption {
      type = types.str;
      default = "/etc/ssh/ssh_host_ed25519_key";
      description = ''
        The private key by which the hub knows the host. Not a path of Nix: that would put it into the store, where
        everybody can read it.
      '';
    };
    host = mkOption {
      type = types.str;
      default = args.name or config.networking.hostName;
      defaultText = lib.literalExpression "name or config.networking.hostName";
      description = "What the host is called in the fleet.";
    };
    page = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether the host has a page that shows what it runs, on loopback only.";
      };
      port = mkOption {
        type = types.port;
        default = 9999;
        description = "The page's port.";
      };
    };
    timer = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "*:0/15";
      description = ''
        When the agent runs, in the form of systemd's `OnCalendar`. null: always, so that a release reaches the host at
        once. With a timer it also runs at each boot, and there is no page.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = options.services.bosco.agent.package.isDefined;
            message = "`services.bosco.agent.package` is not set: the agent is a program of bosco's package.";
          }
          {
            assertion = cfg.host != "";
            message = "`services.bosco.agent.host` is empty, as `networking.hostName` is: say what the host is called in the fleet.";
          }
          {
            assertion = lib.hasPrefix "/" cfg.identity && !lib.hasPrefix builtins.storeDir cfg.identity;
            message = "`services.bosco.agent.identity` is `${cfg.identity}`, and has to be the path of a file outside of the store: it is a private key.";
          }
          {
            assertion = (config.deployment.update.mode or "both") != "push";
            message = "`deployment.update.mode` is `push`, and `services.bosco.agent.enable` is set: no release would ever have anything for the agent.";
          }
        ];

        # `bosco` on the host itself, before the one that only finds a helper.
        environment.systemPackages = [ cfg.package ];

        systemd.services.bosco-agent = {
          description = "bosco: fetch what this host should run, and activate it";
          # With a timer it runs once at a boot as well: a system that was rebooted into waits to be proven.
          wantedBy = [ "multi-user.target" ];
          after = [
            "network.target"
            "nix-daemon.socket"
          ];
          # However often it fails: nobody else brings the host back to the hub.
          startLimitIntervalSec = 0;
          # A switch that it has asked for itself restarts it in mid-work, where it has changed. The activation has a unit of
          # its own, and the agent that is started then finds and confirms it.
          stopIfChanged = false;
          # A host that no hub has let in yet has nothing to do, which is no failure.
          unitConfig.ConditionPathExists = trust;
          path = [ "/run/current-system/sw" ];
          environment = {
            HOME = "/root";
            # The store is written to by Nix's daemon: so the agent needs no rights there.
            NIX_REMOTE = "daemon";
            # What Nix remembers of what it has fetched, where the host builds itself.
            XDG_CACHE_HOME = "/var/cache/bosco";
          }
          // lib.optionalAttrs (config.nix.nixPath != [ ]) {
            # As whoever logs in has it: a configuration without a flake finds its nixpkgs by it.
            NIX_PATH = lib.concatStringsSep ":" config.nix.nixPath;
          };
          serviceConfig = {
            # With a timer it is no `oneshot`: a switch waits until what it starts has started, and this waits for the switch.
            Type = if always then "notify" else "exec";
            ExecStart = lib.escapeShellArgs ([ "${cfg.package}/bin/bosco" ] ++ arguments);
            # Nothing is lost by ending it, and a switch waits for that.
            TimeoutStopSec = "15s";
            OOMScoreAdjust = -500;

            # It is root, and may start units, so whoever has it has the machine. What follows keeps mistakes small, and
            # what is read from the network away from most of the kernel.
            UMask = "0077";
            CacheDirectory = "bosco";
            ProtectSystem = "strict";
            # The journal and the queue of reports; roots; what is of this boot only.
            ReadWritePaths = [
              "/nix/var"
              "/run"
            ];
            ProtectHome = "read-only";
            PrivateTmp = true;
            PrivateDevices = true;
            ProtectClock = true;
            ProtectControlGroups = true;
            ProtectHostname = true;
            ProtectKernelLogs = true;
            ProtectKernelModules = true;
            ProtectKernelTunables = true;
            LockPersonality = true;
            MemoryDenyWriteExecute = true;
            NoNewPrivileges = true;
            RestrictNamespaces = true;
            RestrictRealtime = true;
            RestrictSUIDSGID = true;
            RestrictAddressFamilies = [
              "AF_UNIX"
              "AF_INET"
              "AF_INET6"
              "AF_NETLINK"
            ];
            SystemCallArchitectures = "native";
            SystemCallFilter = [ "@system-service" ];
            SystemCallErrorNumber = "EPERM";
          }
          // (
            if always then
              {
                WatchdogSec = "2min";
                Restart = "always";
                RestartSec = "1s";
                RestartSteps = 8;
                RestartMaxDelaySec = "2min";
              }
            else
              # The hub can't be reached: on a train that is no failure. The next time will do.
              { SuccessExitStatus = 5; }
          );
        };

        # It begins when the host is let in.
        systemd.paths.bosco-agent = lib.mkIf always {
          description = "bosco: whom this host trusts";
          wantedBy = [ "paths.target" ];
          pathConfig.PathChanged = trust;
        };

        systemd.timers.bosco-agent = lib.mkIf (!always) {
          description = "bosco: when this host looks for what it should run";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnCalendar = cfg.timer;
            # What was missed while it was off; and not all hosts at once.
            Persistent = true;
            RandomizedDelaySec = "1min";
            AccuracySec = "1s";
          };
        };
      }
      (lib.optionalAttrs (options ? deployment.update) {
        deployment.update.mode = lib.mkDefault "both";
      })
    ]
  );
}

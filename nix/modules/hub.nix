# bosco's hub: where a fleet's releases are kept, and its hosts and operators connect. One machine of a fleet has it.
#
# To import it changes nothing.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.bosco.hub;
  user = "bosco-hub";
  fleetFile = "bosco/fleet.toml";

  # What systemd makes for a service lies there.
  places = "/var/lib/";
  isStateDirectory = lib.hasPrefix places cfg.stateDir;
  # An address of IPv6 stands in brackets before a port.
  listen =
    let
      isBare = lib.hasInfix ":" cfg.listenAddress && !lib.hasPrefix "[" cfg.listenAddress;
    in
    "${if isBare then "[${cfg.listenAddress}]" else cfg.listenAddress}:${toString cfg.port}";
in
{
  _file = "bosco/nix/modules/hub.nix";
  # By this it is known for the same where a fleet imports it and bosco brings it along.
  key = "bosco/nix/modules/hub.nix";

  options.services.bosco.hub = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether this machine is the fleet's hub.";
    };
    package = mkOption {
      type = types.package;
      description = "The package of bosco.";
    };
    fleetFile = mkOption {
      type = types.path;
      example = lib.literalExpression "./bosco.toml";
      description = ''
        How the fleet is run: whom its hosts trust, and who may do what. It holds no secrets. A new one is read without
        ending any connection.
      '';
    };
    listenAddress = mkOption {
      type = types.str;
      default = "::";
      example = "192.0.2.1";
      description = "The address to listen at. `::` is every one, of IPv4 too; `0.0.0.0` is for a machine without IPv6.";
    };
    port = mkOption {
      type = types.port;
      default = 2222;
      description = "The port, the same for hosts and operators. It must not be that of the machine's own sshd.";
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the firewall lets the port in.";
    };
    stateDir = mkOption {
      type = types.strMatching "/.*[^/]";
      default = "/var/lib/bosco-hub";
      description = "All that the hub keeps, its own key with it.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = options.services.bosco.hub.package.isDefined;
        message = "`services.bosco.hub.package` is not set: the hub is a program of bosco's package.";
      }
      {
        assertion = options.services.bosco.hub.fleetFile.isDefined;
        message = "`services.bosco.hub.fleetFile` is not set: without the fleet's `bosco.toml` the hub knows nobody.";
      }
      {
        assertion = !lib.hasPrefix builtins.storeDir cfg.stateDir;
        message = "`services.bosco.hub.stateDir` is `${cfg.stateDir}`, and the hub can't write to the store.";
      }
      {
        assertion =
          !(config.services.openssh.enable && builtins.elem cfg.port (config.services.openssh.ports or [ ]));
        message = "`services.bosco.hub.port` is ${toString cfg.port}, which the machine's own sshd has: the hub needs one of its own.";
      }
    ];

    environment.systemPackages = [ cfg.package ];
    environment.etc.${fleetFile}.source = cfg.fleetFile;
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];

    # One that stays the same, as the state has to be its own over every boot and in every backup.
    users.users.${user} = {
      isSystemUser = true;
      group = user;
      description = "bosco's hub";
    };
    users.groups.${user} = { };
    systemd.tmpfiles.rules = lib.mkIf (!isStateDirectory) [ "d '${cfg.stateDir}' 0700 ${user} ${user} - -" ];

    systemd.services.bosco-hub = {
      description = "bosco: the fleet's hub";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      startLimitIntervalSec = 0;
      # Connections end with it: as short as can be.
      stopIfChanged = false;
      # Where its bosco.toml has it build.
      path = [ config.nix.package ];
      environment.XDG_CACHE_HOME = "${cfg.stateDir}/cache";
      # It reads this one again.
      reloadTriggers = [ config.environment.etc.${fleetFile}.source ];
      serviceConfig = {
        Type = "exec";
        ExecStart = lib.escapeShellArgs [
          "${cfg.package}/bin/bosco"
          "hub"
          "--state"
          cfg.stateDir
          "--listen"
          listen
          "--fleet"
          "/etc/${fleetFile}"
        ];
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = "1s";
        RestartSteps = 5;
        RestartMaxDelaySec = "30s";
        TimeoutStopSec = "30s";
        # Every host and every operator holds some.
        LimitNOFILE = 524288;

        User = user;
        Group = user;
        UMask = "0077";
        WorkingDirectory = "/";
        # It takes what anybody on the network sends: nothing of the machine is its business but its own folder.
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        RemoveIPC = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        # None; but for a port that takes one.
        CapabilityBoundingSet = if cfg.port < 1024 then "CAP_NET_BIND_SERVICE" else "";
        AmbientCapabilities = if cfg.port < 1024 then "CAP_NET_BIND_SERVICE" else "";
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
        ];
        SystemCallErrorNumber = "EPERM";
      }
      // (
        if isStateDirectory then
          {
            StateDirectory = lib.removePrefix places cfg.stateDir;
            StateDirectoryMode = "0700";
          }
        else
          { ReadWritePaths = [ cfg.stateDir ]; }
      );
    };
  };
}

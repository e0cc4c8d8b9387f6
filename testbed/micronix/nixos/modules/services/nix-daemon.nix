# Nix: the base system's, with a configuration of ours.
{ config, pkgs, lib, ... }:
let
  cfg = config.nix;
  show = v: if builtins.isBool v then lib.boolToString v else if builtins.isList v then toString (map show v) else toString v;
  # There is no registry to fetch in a lab; without flakes Nix would warn about the setting.
  flakes = lib.hasInfix "flakes" (toString (cfg.settings.experimental-features or "") + cfg.extraOptions);
  noRegistry = lib.optionalString (flakes && !cfg.settings ? flake-registry) "flake-registry =\n";
in {
  options.nix = {
    enable = lib.mkOption { type = lib.types.bool; default = true; description = "Whether the machine has Nix."; };
    package = lib.mkOption { type = lib.types.package; default = pkgs.nix; description = "The package of Nix."; };
    settings = lib.mkOption {
      default = { };
      description = "nix.conf.";
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf (lib.types.nullOr (lib.types.oneOf [ lib.types.bool lib.types.int lib.types.float lib.types.str lib.types.path (lib.types.listOf (lib.types.oneOf [ lib.types.str lib.types.path ])) ]));
        options = {
          trusted-users = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Who may do everything."; };
          allowed-users = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ "*" ]; description = "Who may connect."; };
          substituters = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Where finished paths come from. There are none in a lab."; };
          trusted-public-keys = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Whose signatures count."; };
          sandbox = lib.mkOption { type = lib.types.either lib.types.bool (lib.types.enum [ "relaxed" ]); default = true; description = "Whether builds are shut in."; };
          max-jobs = lib.mkOption { type = lib.types.either lib.types.int (lib.types.enum [ "auto" ]); default = "auto"; description = "How many builds at once."; };
          cores = lib.mkOption { type = lib.types.int; default = 0; description = "How many processors a build may use."; };
          require-sigs = lib.mkOption { type = lib.types.bool; default = true; description = "Whether paths must be signed."; };
          auto-optimise-store = lib.mkOption { type = lib.types.bool; default = false; description = "Whether equal files are linked."; };
        };
      };
    };
    extraOptions = lib.mkOption { type = lib.types.lines; default = ""; description = "More lines of nix.conf."; };
    gc = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    optimise = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    channel.enable = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    nixPath = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "NIX_PATH."; };
    registry = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; description = "Taken."; };
    buildMachines = lib.mkOption { type = lib.types.listOf lib.types.attrs; default = [ ]; description = "Taken."; };
    distributedBuilds = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    daemonCPUSchedPolicy = lib.mkOption { type = lib.types.str; default = "other"; description = "Taken."; };
    daemonIOSchedClass = lib.mkOption { type = lib.types.str; default = "best-effort"; description = "Taken."; };
  };

  config = lib.mkIf cfg.enable {
    nix.settings = {
      trusted-users = [ "root" ];
      build-users-group = "nixbld";
      extra-sandbox-paths = [ "/bin/sh=${pkgs.busybox-bin}/bin/busybox" ];
    };
    environment.etc."nix/nix.conf".text = ''
      # Written by the system's configuration.
      ${lib.concatStrings (lib.mapAttrsToList (k: v: lib.optionalString (v != null) "${k} = ${show v}\n") cfg.settings)}${noRegistry}${cfg.extraOptions}
    '';
    systemd.sockets.nix-daemon = {
      description = "Nix Daemon Socket";
      wantedBy = [ "sockets.target" ];
      unitConfig = { RequiresMountsFor = "/nix/store"; ConditionPathIsReadWrite = "/nix/var/nix/daemon-socket"; };
      socketConfig.ListenStream = "/nix/var/nix/daemon-socket/socket";
    };
    systemd.services.nix-daemon = {
      description = "Nix Daemon";
      unitConfig = { RequiresMountsFor = [ "/nix/store" "/nix/var" ]; ConditionPathIsReadWrite = "/nix/var/nix/daemon-socket"; };
      restartTriggers = [ config.environment.etc."nix/nix.conf".source ];
      stopIfChanged = false;
      serviceConfig = {
        ExecStart = "@${cfg.package}/bin/nix-daemon nix-daemon --daemon";
        KillMode = "process";
        LimitNOFILE = 1048576;
        TasksMax = 1048576;
        Delegate = true;
      };
    };
    system.activationScripts.nix = lib.stringAfter [ "etc" "users" ] ''
      mkdir -p -m 0755 /nix/var/nix/{gcroots,profiles,daemon-socket} /nix/var/nix/{profiles,gcroots}/per-user
      # As NixOS has it, whatever was there: every user may ask.
      chown root:root /nix/var/nix/daemon-socket
      chmod 0755 /nix/var/nix/daemon-socket
    '';
  };
}

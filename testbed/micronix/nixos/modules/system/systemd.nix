# systemd: its units, its own configuration, temporary files.
{ config, pkgs, lib, ... }:
let
  cfg = config.systemd;
  u = import ./unit-options.nix { inherit lib pkgs config; };
  manager = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf u.directive; }; default = { }; description = "Lines of its configuration."; };
  lines = lib.mkOption { type = lib.types.lines; default = ""; description = "More lines."; };
  defaultPath = [ pkgs.coreutils pkgs.findutils pkgs.gnugrep pkgs.gnused cfg.package ];
  decl = type: default: lib.mkOption { inherit type default; description = "Units."; };

  # What the base system has and NixOS has too: here under /etc as well, so that a switch starts what targets want.
  upstream = [
    "basic.target" "sysinit.target" "sockets.target" "exit.target" "graphical.target" "multi-user.target" "network.target"
    "network-pre.target" "network-online.target" "nss-lookup.target" "nss-user-lookup.target" "time-sync.target"
    "timers.target" "paths.target" "rescue.target" "getty.target" "local-fs.target" "local-fs-pre.target" "remote-fs.target"
    "remote-fs-pre.target" "swap.target" "slices.target" "machines.target" "reboot.target" "poweroff.target" "halt.target"
    "shutdown.target" "umount.target" "final.target" "kexec.target"
    "systemd-journald.service" "systemd-logind.service" "systemd-user-sessions.service" "systemd-tmpfiles-clean.timer"
    "systemd-tmpfiles-setup.service" "systemd-sysctl.service" "user@.service" "user-runtime-dir@.service" "console-getty.service"
  ];

  fromTable = render: table: map render (lib.attrValues table);
  units =
    fromTable u.render.service cfg.services ++ fromTable u.render.socket cfg.sockets ++ fromTable u.render.timer cfg.timers
    ++ fromTable u.render.path cfg.paths ++ fromTable u.render.target cfg.targets ++ fromTable u.render.slice cfg.slices
    ++ map u.render.mount cfg.mounts
    ++ lib.mapAttrsToList (name: def: def // { inherit name; }) cfg.units;
  userUnits = fromTable u.render.service cfg.user.services ++ fromTable u.render.timer cfg.user.timers
    ++ fromTable u.render.socket cfg.user.sockets ++ fromTable u.render.target cfg.user.targets;
  tmpfileLine = path: type: rule: "${type} '${path}' ${rule.mode} ${rule.user} ${rule.group} ${rule.age} ${rule.argument}\n";
  tmpfiles = lib.concatLines cfg.tmpfiles.rules + lib.concatStrings (lib.mapAttrsToList (_: paths:
    lib.concatStrings (lib.mapAttrsToList (path: types: lib.concatStrings (lib.mapAttrsToList (tmpfileLine path) types)) paths)) cfg.tmpfiles.settings);
  watchdog = from: to: lib.mkRenamedOptionModule [ "systemd" "watchdog" from ] [ "systemd" "settings" "Manager" to ];
in {
  imports = [
    (watchdog "device" "WatchdogDevice")
    (watchdog "runtimeTime" "RuntimeWatchdogSec")
    (watchdog "rebootTime" "RebootWatchdogSec")
    (watchdog "kexecTime" "KExecWatchdogSec")
  ];
  options.systemd = {
    package = lib.mkOption { type = lib.types.package; default = pkgs.systemd; description = "The package of systemd."; };
    packages = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "Packages that bring units."; };
    units = decl (lib.types.attrsOf (lib.types.submodule { options = {
      inherit (u.common) enable wantedBy requiredBy upheldBy aliases overrideStrategy;
      text = lib.mkOption { type = lib.types.lines; default = ""; description = "The unit's file."; };
    }; })) { };
    services = decl (u.types'.services defaultPath) { };
    sockets = decl u.types'.sockets { };
    timers = decl u.types'.timers { };
    paths = decl u.types'.paths { };
    targets = decl u.types'.targets { };
    slices = decl u.types'.slices { };
    mounts = decl u.types'.mounts [ ];
    user = {
      services = decl (u.types'.services defaultPath) { };
      sockets = decl u.types'.sockets { };
      timers = decl u.types'.timers { };
      targets = decl u.types'.targets { };
    };
    defaultUnit = lib.mkOption { type = lib.types.str; default = "multi-user.target"; description = "What is started at boot."; };
    globalEnvironment = lib.mkOption { type = lib.types.attrsOf (lib.types.nullOr (lib.types.oneOf [ lib.types.str lib.types.path lib.types.package ])); default = { }; description = "The environment of all services."; };
    extraConfig = lines;
    settings.Manager = manager;
    enableEmergencyMode = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    network = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    tmpfiles.rules = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Lines of tmpfiles.d."; };
    tmpfiles.settings = lib.mkOption {
      default = { };
      description = "The same, by path and type.";
      type = lib.types.attrsOf (lib.types.attrsOf (lib.types.attrsOf (lib.types.submodule {
        options = lib.genAttrs [ "mode" "user" "group" "age" ] (_: lib.mkOption { type = lib.types.str; default = "-"; description = "A field."; })
          // { argument = lib.mkOption { type = lib.types.str; default = ""; description = "The last field."; }; };
      })));
    };
  };

  config = {
    systemd.timers = lib.mapAttrs (_: s: { wantedBy = [ "timers.target" ]; timerConfig.OnCalendar = s.startAt; })
      (lib.filterAttrs (_: s: s.enable && s.startAt != [ ]) cfg.services);
    systemd.targets = {
      sysinit-reactivation.description = "Reactivate sysinit units";
      local-fs.unitConfig.X-StopOnReconfiguration = true;
      remote-fs.unitConfig.X-StopOnReconfiguration = true;
    };
    # There is no terminal.
    systemd.services.console-getty.enable = lib.mkDefault false;
    systemd.services.systemd-tmpfiles-resetup = {
      description = "Re-setup tmpfiles on a system that is already running.";
      requiredBy = [ "sysinit-reactivation.target" ];
      after = [ "local-fs.target" "systemd-sysusers.service" "systemd-journald.service" ];
      before = [ "sysinit-reactivation.target" "shutdown.target" ];
      conflicts = [ "shutdown.target" ];
      restartTriggers = [ config.environment.etc."tmpfiles.d/00-nixos.conf".source ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/usr/bin/systemd-tmpfiles --create --remove --exclude-prefix=/dev";
        SuccessExitStatus = "DATAERR CANTCREAT";
      };
    };
    systemd.user.services.nixos-activation = {
      description = "Run user-specific NixOS activation";
      script = config.system.userActivationScripts.script;
      unitConfig.ConditionUser = "!@system";
      serviceConfig.Type = "oneshot";
      wantedBy = [ "default.target" ];
    };

    system.build.units = u.folder {
      name = "system-units";
      inherit units upstream;
      from = "/usr/lib/systemd/system";
      extra = ''
        ln -s ${cfg.defaultUnit} default.target
        ln -s reboot.target ctrl-alt-del.target
        mkdir -p multi-user.target.wants
        ln -s ../remote-fs.target multi-user.target.wants/
        for package in ${toString cfg.packages}; do
          for dir in $package/etc/systemd/system $package/lib/systemd/system; do
            [ ! -d $dir ] || for f in $dir/*; do [ -e "''${f##*/}" ] || ln -s $f .; done
          done
        done
      '';
    };
    environment.etc = {
      "systemd/system".source = config.system.build.units;
      "systemd/user".source = u.folder { name = "user-units"; units = userUnits; upstream = [ ]; from = "/usr/lib/systemd/user"; };
      "systemd/system.conf".text = "[Manager]\n${u.textOf cfg.settings.Manager}${cfg.extraConfig}";
      "tmpfiles.d/00-nixos.conf".text = "# Written by the system's configuration.\n${tmpfiles}";
    };
  };
}

# The systems that micronix.rs puts on a machine, by name. Each differs from another in what one promise is about.
{ nixpkgs ? ../., system ? "x86_64-linux" }:
let
  of = module: (import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit system;
    modules = [ (nixpkgs + "/base-module.nix") module ];
  }).config.system.build.toplevel;

  # Units of every kind that a switch tells apart; all of them change with the version.
  units = version: { lib, ... }: {
    environment.etc.version.text = version;
    systemd.services = let
      runs = more: { wantedBy = [ "multi-user.target" ]; script = "echo ${version} > /run/$(basename \"$0\"); exec sleep infinity"; } // more;
    in {
      plain = runs { };
      no-stop = runs { stopIfChanged = false; };
      no-restart = runs { restartIfChanged = false; };
      reloads = runs { reloadIfChanged = true; reload = "echo ${version} >> /run/reloaded"; };
      triggered = { wantedBy = [ "multi-user.target" ]; restartTriggers = [ version ]; script = "exec sleep infinity"; };
      reload-triggered = { wantedBy = [ "multi-user.target" ]; reloadTriggers = [ version ]; script = "exec sleep infinity"; reload = "echo reloaded >> /run/reload-triggered"; };
      manual = runs { unitConfig.X-OnlyManualStart = true; };
      stays = lib.mkIf (version == "one") (runs { unitConfig.X-StopOnRemoval = false; });
      goes = lib.mkIf (version == "one") (runs { });
      comes = lib.mkIf (version == "two") (runs { });
      same = { wantedBy = [ "multi-user.target" ]; script = "exec sleep infinity"; };
      by-socket = { script = "echo ${version}; exec sleep infinity"; };
      tick.script = "true";
      masked = { enable = version == "one"; wantedBy = [ "multi-user.target" ]; script = "exec sleep infinity"; };
    };
    systemd.sockets.by-socket = { wantedBy = [ "sockets.target" ]; listenStreams = [ "/run/by-socket" ]; };
    systemd.timers.tick = { wantedBy = [ "timers.target" ]; timerConfig.OnBootSec = if version == "one" then "1h" else "2h"; };
    systemd.targets.ordered = { wantedBy = [ "multi-user.target" ]; unitConfig.X-StopOnReconfiguration = true; };
    system.activationScripts.asks = "echo same.service >> /run/nixos/activation-restart-list";
  };
in {
  plain = of { };
  units-one = of (units "one");
  units-two = of (units "two");

  fails = of {
    systemd.services.fails = { wantedBy = [ "multi-user.target" ]; serviceConfig.Type = "oneshot"; script = "exit 1"; };
    environment.etc.version.text = "fails";
  };
  activation-fails = of {
    system.activationScripts.fails = "false";
    environment.etc.version.text = "activation-fails";
    systemd.services.after = { wantedBy = [ "multi-user.target" ]; script = "exec sleep infinity"; };
  };
  hangs = of { system.activationScripts.hangs = "echo > /run/hangs; sleep 600"; };
  refused = of { system.preSwitchChecks.never = "echo never; false"; environment.etc.version.text = "refused"; };
  inhibited = of { system.switch.inhibitors.dbus-implementation = "broker"; };
  other-init = of ({ pkgs, ... }: { systemd.package = pkgs.systemd // { interfaceVersion = 3; }; });
  other-kernel = of ({ pkgs, ... }: { boot.kernelPackages = pkgs.linuxPackages_latest; environment.etc.version.text = "other-kernel"; });
  other-systemd = of { systemd.settings.Manager.DefaultTimeoutStopSec = "33s"; };
  special = of ({ lib, ... }: {
    environment.etc.version.text = lib.mkDefault "parent";
    specialisation.other.configuration.environment.etc.version.text = "special";
  });
  limited = of { boot.loader.systemd-boot.configurationLimit = 2; };
  files = of {
    environment.etc = { "linked/file".text = "linked"; copied = { text = "copied"; mode = "0640"; user = "nobody"; group = "adm"; }; };
    users.users.anna = { isNormalUser = true; extraGroups = [ "wheel" ]; openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA anna" ]; };
    systemd.tmpfiles.rules = [ "d /run/made 0750 root root -" ];
    networking.hostName = "named";
  };
}

# bosco's module on the host: with it a new system is proven after a reboot too, and a machine that hangs comes back.
#
# Without it a host is deployed all the same, by the helper that comes with a push. To import it changes nothing.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  helper = "/nix/var/nix/gcroots/bosco/helper/bin/bosco";

  # Where NixOS keeps the settings of systemd itself: by their own names since 25.11.
  hasSettings = options.systemd ? settings;
  watchdog =
    if hasSettings then
      config.systemd.settings.Manager.RuntimeWatchdogSec
    else
      config.systemd.watchdog.runtimeTime;
  watched = lib.mkDefault "60";
in
{
  _file = "bosco/nix/modules/host.nix";
  # By this it is known for the same where a fleet imports it and bosco brings it along.
  key = "bosco/nix/modules/host.nix";

  options.services.bosco.enable = lib.mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = ''
      Whether the host proves a new system after a reboot as well, and goes back by itself where it can't: by a service
      that is started early at boot, by rebooting after a panic, and by the machine's watchdog.
    '';
  };

  config = lib.mkIf config.services.bosco.enable {
    systemd = {
      services.bosco-boot = {
        description = "bosco: what an activation has left for after the reboot";
        wantedBy = [ "multi-user.target" ];
        # Before everything else that can hang: it has to be there to give up on it.
        after = [ "local-fs.target" ];
        before = [ "shutdown.target" ];
        conflicts = [ "shutdown.target" ];
        # It goes back by a switch of its own, which must end neither it nor its deadline: not even a switch to a system
        # without this module.
        restartIfChanged = false;
        stopIfChanged = false;
        # However often it fails, the deadline stands.
        startLimitIntervalSec = 0;
        unitConfig = {
          DefaultDependencies = false;
          ConditionPathExists = [
            helper
            "/nix/var/bosco/journal.json"
          ];
          X-StopOnRemoval = false;
        };
        path = [ "/run/current-system/sw" ];
        environment.HOME = "/root";
        serviceConfig = {
          Type = "exec";
          # A switch starts again what targets want and has ended. What is under way then is an activation of this boot,
          # which is none of this unit's business, or nothing.
          ExecCondition = "${pkgs.runtimeShell} -c '! systemctl --quiet is-active bosco-activation.service'";
          ExecStart = "${helper} helper boot";
          RemainAfterExit = true;
          Restart = "on-failure";
          RestartSec = "1s";
        };
      };
    }
    // (
      if hasSettings then
        { settings.Manager.RuntimeWatchdogSec = watched; }
      else
        { watchdog.runtimeTime = watched; }
    );

    # First, so that a parameter of the host's own, behind them, wins. As a parameter the watchdog is there from the
    # initrd on.
    boot.kernelParams = lib.mkBefore (
      [ "panic=30" ]
      ++ lib.optional (watchdog != null) (
        "systemd.watchdog_sec=" + lib.replaceStrings [ " " ] [ "" ] (toString watchdog)
      )
    );

    # Last, and of low priority: where bosco itself is installed, that is `bosco`.
    environment.systemPackages = lib.mkAfter [
      (lib.lowPrio (
        pkgs.writeShellScriptBin "bosco" ''
          if [ ! -x ${helper} ]; then
            echo "bosco: no helper is on this host yet; the first \`bosco apply\` to it brings one" >&2
            exit 127
          fi
          exec ${helper} "$@"
        ''
      ))
    ];
  };
}

# bin/switch-to-configuration, and what is checked before it does anything.
{ config, pkgs, lib, ... }:
let
  checks = config.system.preSwitchChecks;
  inhibitors = pkgs.writeText "switch-inhibitors" (builtins.toJSON config.system.switch.inhibitors);
in {
  options.system = {
    switch.enable = lib.mkOption { type = lib.types.bool; default = true; description = "Whether the machine can switch."; };
    switch.enableNg = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    switch.inhibitors = lib.mkOption { type = lib.types.attrsOf lib.types.str; default = { }; description = "What must not change under a running system."; };
    preSwitchChecks = lib.mkOption { type = lib.types.attrsOf lib.types.str; default = { }; description = "Scripts that must succeed before a switch."; };
    preSwitchChecksScript = lib.mkOption { internal = true; readOnly = true; description = "All of them, as one."; default = pkgs.writeShellScript "pre-switch-checks" (
      lib.concatLines (lib.mapAttrsToList (name: text: ''
        # pre-switch check ${name}
        if ! ( ${text}
        ) ; then
          echo "Pre-switch check '${name}' failed"
          exit 1
        fi
      '') checks)); };
  };
  config = {
    system.switch.inhibitors.dbus-implementation = lib.mkDefault "dbus";
    system.preSwitchChecks.switchInhibitors = ''
      incoming="''${1-}" action="''${2-}"
      if [ "$action" = boot ] || [ ! -e /run/current-system/switch-inhibitors ]; then exit 0; fi
      if ! cmp -s /run/current-system/switch-inhibitors "$incoming/switch-inhibitors"; then
        echo "There are changes to critical components of the system:"
        echo "  now:  $(cat /run/current-system/switch-inhibitors)"
        echo "  then: $(cat "$incoming/switch-inhibitors")"
        echo "Switching into this system is not recommended: install it for the next boot and reboot instead."
        echo "NIXOS_NO_CHECK=1 switches all the same."
        exit 1
      fi
    '';
    system.systemBuilderCommands = lib.mkIf config.system.switch.enable ''
      mkdir -p $out/bin
      cat > $out/bin/switch-to-configuration <<END
      #!${pkgs.runtimeShell}
      export OUT='$out'
      export TOPLEVEL='$out'
      export DISTRO_ID='${config.system.nixos.distroId}'
      export PRE_SWITCH_CHECK='${config.system.preSwitchChecksScript}'
      export INSTALL_BOOTLOADER='${config.system.build.installBootLoader}'
      export LOCALE_ARCHIVE=
      export SYSTEMD='${config.systemd.package}'
      exec -a "\$0" ${pkgs.switch-to-configuration-ng}/bin/switch-to-configuration "\$@"
      END
      chmod +x $out/bin/switch-to-configuration
      ln -s ${inhibitors} $out/switch-inhibitors
    '';
  };
}

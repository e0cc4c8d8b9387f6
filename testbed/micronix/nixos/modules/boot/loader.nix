# The boot loader: entries under /boot/loader as systemd-boot has them, read by the machine's first process.
{ config, pkgs, lib, ... }:
let
  cfg = config.boot.loader;
  installer = pkgs.writeScript "install-micronix-boot" (
    lib.replaceStrings [ "@shell@" "@path@" "@limit@" "@timeout@" "@distroName@" ] [
      "${pkgs.busybox-bin}/bin/busybox sh" "${pkgs.busybox}/bin"
      (toString (if cfg.systemd-boot.configurationLimit == null then 0 else cfg.systemd-boot.configurationLimit))
      (if cfg.timeout == null then "menu-force" else toString cfg.timeout)
      config.system.nixos.distroName
    ] (builtins.readFile ../../../boot/install-loader.sh));
in {
  options.boot.loader = {
    timeout = lib.mkOption { type = lib.types.nullOr lib.types.int; default = 5; description = "How long the menu waits."; };
    efi.canTouchEfiVariables = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    efi.efiSysMountPoint = lib.mkOption { type = lib.types.str; default = "/boot"; description = "Taken."; };
    systemd-boot = {
      enable = lib.mkOption { type = lib.types.bool; default = false; description = "Whether to enable the systemd-boot (formerly gummiboot) EFI boot manager."; };
      configurationLimit = lib.mkOption { type = lib.types.nullOr lib.types.int; default = null; description = "How many generations of each profile have entries."; };
      editor = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
      graceful = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    };
    grub = lib.mkOption {
      default = { };
      description = "GRUB. Taken: a lab's machine boots by the same entries whichever loader it names.";
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.anything;
        options.enable = lib.mkOption { type = lib.types.bool; default = !config.boot.isContainer && !cfg.systemd-boot.enable; description = "Whether to enable the GNU GRUB boot loader."; };
        options.configurationLimit = lib.mkOption { type = lib.types.int; default = 100; description = "Taken."; };
      };
    };
    generic-extlinux-compatible.enable = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
  };
  config = {
    system.build.bootctl = pkgs.writeTextFile {
      name = "bootctl";
      destination = "/bin/bootctl";
      executable = true;
      text = lib.replaceStrings [ "@shell@" "@path@" ] [ "${pkgs.busybox-bin}/bin/busybox sh" "${pkgs.busybox}/bin" ] (builtins.readFile ../../../boot/bootctl.sh);
    };
    system.build.installBootLoader =
      if config.boot.isContainer then pkgs.writeShellScript "no-boot-loader" "exit 0" else installer;
  };
}

# The boot loader: entries under /boot/loader as systemd-boot has them, read by the machine's first process. An emulated
# machine has the real systemd-boot or GRUB, and is known by the kernel that it brings.
{ config, pkgs, lib, ... }:
let
  cfg = config.boot.loader;
  text = file: more: lib.replaceStrings [ "@shell@" "@path@" "@linux@" "@distroName@" ] [
    "${pkgs.busybox-bin}/bin/busybox sh" "${pkgs.busybox}/bin" "/usr/lib/micronix/linux" config.system.nixos.distroName
  ] (lib.replaceStrings (map (key: "@${key}@") (lib.attrNames more)) (lib.attrValues more) (builtins.readFile file));
  installer = pkgs.writeScript "install-micronix-boot" (text ../../../boot/install-loader.sh {
    limit = toString (if cfg.systemd-boot.configurationLimit == null then 0 else cfg.systemd-boot.configurationLimit);
    timeout = if cfg.timeout == null then "menu-force" else toString cfg.timeout;
  });
  grubInstaller = pkgs.writeScript "install-grub" (text ../../../boot/install-grub.sh {
    limit = toString cfg.grub.configurationLimit;
    timeout = toString (if cfg.timeout == null then -1 else cfg.timeout);
    standIn = "${installer}";
  });
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
      description = "GRUB. Only an emulated machine has it; others boot by the same entries whichever loader they name.";
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.anything;
        options.enable = lib.mkOption { type = lib.types.bool; default = !config.boot.isContainer && !cfg.systemd-boot.enable; description = "Whether to enable the GNU GRUB boot loader."; };
        options.configurationLimit = lib.mkOption { type = lib.types.int; default = 100; description = "How many generations of each profile have entries."; };
      };
    };
    generic-extlinux-compatible.enable = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
  };
  config = {
    environment.systemPackages = lib.mkIf cfg.grub.enable [ pkgs.grub2 ];
    system.build.bootctl = pkgs.writeScriptBin "bootctl" (text ../../../boot/bootctl.sh { });
    system.build.installBootLoader =
      if config.boot.isContainer then pkgs.writeShellScript "no-boot-loader" "exit 0"
      else if cfg.grub.enable then grubInstaller else installer;
  };
}

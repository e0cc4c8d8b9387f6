# Options that typical configurations set and that do nothing here: they are taken, and checked no further.
{ lib, ... }:
let
  taken = default: lib.mkOption { type = lib.types.anything; inherit default; description = "Taken, without effect here."; };
  # A part of the tree where any option goes, with names below it still checked for being sets.
  anyOf = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken, without effect here."; };
in {
  options = {
    time.timeZone = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The time zone."; };
    time.hardwareClockInLocalTime = taken false;
    i18n = {
      defaultLocale = lib.mkOption { type = lib.types.str; default = "en_US.UTF-8"; description = "The locale."; };
      extraLocaleSettings = taken { };
      supportedLocales = taken [ ];
    };
    console = anyOf;
    documentation = anyOf;
    hardware = anyOf;
    powerManagement = anyOf;
    zramSwap = anyOf;
    fonts = anyOf;
    xdg = anyOf;
    security = {
      sudo = anyOf;
      polkit = anyOf;
      rtkit = anyOf;
      pam = anyOf;
      acme = anyOf;
    };
    virtualisation = anyOf;
    fileSystems = lib.mkOption {
      default = { };
      description = "The file systems. Taken: what a machine of the lab has is mounted from outside.";
      type = lib.types.attrsOf (lib.types.submodule ({ name, ... }: {
        options = {
          mountPoint = lib.mkOption { type = lib.types.str; default = name; description = "Where it is mounted."; };
          device = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "What is mounted."; };
          label = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The label of what is mounted."; };
          fsType = lib.mkOption { type = lib.types.str; default = "auto"; description = "The type."; };
          options = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ "defaults" ]; description = "The options."; };
          neededForBoot = lib.mkOption { type = lib.types.bool; default = false; description = "Whether stage 1 mounts it."; };
          autoResize = taken false;
          noCheck = taken false;
          depends = taken [ ];
        };
      }));
    };
    swapDevices = taken [ ];
    programs = {
      bash = anyOf;
      zsh = anyOf;
      fish = anyOf;
      git = anyOf;
      vim = anyOf;
      neovim = anyOf;
      tmux = anyOf;
      htop = anyOf;
      mtr = anyOf;
      ssh = anyOf;
      nix-ld = anyOf;
      direnv = anyOf;
      command-not-found = anyOf;
      less = anyOf;
      nano = anyOf;
      gnupg = anyOf;
    };
    services = {
      getty = anyOf;
      journald = anyOf;
      logind = anyOf;
      timesyncd = anyOf;
      resolved = anyOf;
      qemuGuest = anyOf;
      fstrim = anyOf;
      udev = anyOf;
      dbus = anyOf;
      xserver = anyOf;
      printing = anyOf;
      avahi = anyOf;
      fwupd = anyOf;
    };
  };
}

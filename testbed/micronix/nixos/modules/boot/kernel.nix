# The kernel and what it is started with. Machines of a lab share the host's kernel: these files only stand for one, so
# that a change of kernel can be seen.
{ config, pkgs, lib, ... }:
let
  taken = default: lib.mkOption { type = lib.types.anything; inherit default; description = "Taken."; };
  kernelParam = lib.types.strMatching ''([^"[:space:]]|"[^"]*")+'' // { name = "kernelParam"; description = "string, with spaces inside double quotes"; };
in {
  options = {
    boot = {
      kernelPackages = lib.mkOption { type = lib.types.raw; default = pkgs.linuxPackages; description = "The kernel and its modules."; };
      kernelParams = lib.mkOption { type = lib.types.listOf kernelParam; default = [ ]; description = "The kernel's command line."; };
      kernelModules = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Modules that are loaded."; };
      blacklistedKernelModules = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Taken."; };
      extraModulePackages = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "Modules from elsewhere."; };
      extraModprobeConfig = lib.mkOption { type = lib.types.lines; default = ""; description = "Taken."; };
      supportedFilesystems = taken [ ];
      consoleLogLevel = lib.mkOption { type = lib.types.int; default = 4; description = "Taken."; };
      isContainer = lib.mkOption { type = lib.types.bool; default = false; description = "Whether the machine has no boot of its own."; };
      growPartition = taken false;
      tmp = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
      initrd = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "What is in the initial RAM disk."; };
      kernel.sysctl = lib.mkOption { type = lib.types.attrsOf (lib.types.nullOr (lib.types.oneOf [ lib.types.bool lib.types.int lib.types.str ])); default = { }; description = "The kernel's parameters at run time."; };
      postBootCommands = lib.mkOption { type = lib.types.lines; default = ""; description = "Taken."; };
      bootspec.enable = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    };
    system.modulesTree = lib.mkOption { internal = true; description = "All of the kernel's modules."; };
    system.boot.loader.kernelFile = lib.mkOption { internal = true; type = lib.types.str; default = "bzImage"; description = "The kernel's file."; };
    system.boot.loader.initrdFile = lib.mkOption { internal = true; type = lib.types.str; default = "initrd"; description = "The RAM disk's file."; };
    system.boot.loader.id = lib.mkOption { internal = true; type = lib.types.str; default = ""; description = "The loader."; };
  };
  config = {
    boot.kernelParams = [ "loglevel=${toString config.boot.consoleLogLevel}" ];
    system.modulesTree = config.boot.kernelPackages.kernel;
    system.build.kernel = config.boot.kernelPackages.kernel;
    system.build.initialRamdisk = pkgs.writeTextDir "initrd" "a stand-in for the initial RAM disk of Linux ${config.boot.kernelPackages.kernel.version}\n${builtins.toJSON config.boot.initrd}\n";
    environment.etc."sysctl.d/60-nixos.conf" = lib.mkIf (config.boot.kernel.sysctl != { }) {
      text = lib.concatStrings (lib.mapAttrsToList (k: v: lib.optionalString (v != null) "${k}=${if v == false then "0" else toString v}\n") config.boot.kernel.sysctl);
    };
  };
}

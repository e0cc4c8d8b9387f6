# The package set that modules get as `pkgs`.
{ config, options, lib, ... }:
let
  cfg = config.nixpkgs;
  system = if options.nixpkgs.hostPlatform.isDefined then cfg.hostPlatform.system else cfg.system;
  made = import ../../.. { inherit system; inherit (cfg) config overlays; };
in {
  options.nixpkgs = {
    pkgs = lib.mkOption {
      type = lib.types.attrs;
      description = "The package set, where it is made elsewhere.";
    };
    config = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; description = "The configuration of the package set."; };
    overlays = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; description = "Overlays on the package set."; };
    system = lib.mkOption {
      type = lib.types.str;
      default = throw "Neither nixpkgs.hostPlatform nor the legacy option nixpkgs.system has been set.\nYou can set nixpkgs.hostPlatform in hardware-configuration.nix by re-running\na recent version of nixos-generate-config.\nThe option nixpkgs.system is still fully supported for interoperability,\nbut will be deprecated in the future, so we recommend to set nixpkgs.hostPlatform.\n";
      description = "The system that the configuration is for.";
    };
    localSystem = lib.mkOption { type = lib.types.unspecified; default = { inherit (cfg) system; }; internal = true; description = "The system, as an attribute set."; };
    hostPlatform = lib.mkOption {
      type = lib.types.either lib.types.str lib.types.attrs;
      apply = lib.systems.elaborate;
      description = "The platform that the configuration runs on.";
    };
    buildPlatform = lib.mkOption {
      type = lib.types.either lib.types.str lib.types.attrs;
      default = cfg.hostPlatform;
      apply = lib.systems.elaborate;
      description = "The platform that the configuration is built on.";
    };
    flake.source = lib.mkOption { type = lib.types.nullOr (lib.types.either lib.types.str lib.types.path); default = null; description = "Where this flake lies."; };
    flake.setNixPath = lib.mkOption { type = lib.types.bool; default = false; description = "Accepted."; };
    flake.setFlakeRegistry = lib.mkOption { type = lib.types.bool; default = false; description = "Accepted."; };
  };
  config._module.args.pkgs =
    # A set that was given is taken as it is, with the overlays that the configuration adds.
    if !options.nixpkgs.pkgs.isDefined then made
    else if cfg.overlays == [ ] || cfg.overlays == cfg.pkgs.overlays or [ ] then cfg.pkgs
    else cfg.pkgs.appendOverlays cfg.overlays;
}

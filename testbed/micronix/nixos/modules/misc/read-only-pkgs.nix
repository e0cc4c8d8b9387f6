# A package set that the configuration must not change.
{ config, lib, ... }: {
  disabledModules = [ ./nixpkgs.nix ];
  options.nixpkgs = {
    pkgs = lib.mkOption { type = lib.types.attrs; description = "The package set."; };
    config = lib.mkOption { internal = true; type = lib.types.unique { message = "nixpkgs.config is set to read-only"; } lib.types.anything; description = "Read-only."; };
    overlays = lib.mkOption { internal = true; type = lib.types.unique { message = "nixpkgs.overlays is set to read-only"; } lib.types.anything; description = "Read-only."; };
    hostPlatform = lib.mkOption { internal = true; readOnly = true; default = config.nixpkgs.pkgs.stdenv.hostPlatform; description = "Read-only."; };
    system = lib.mkOption { internal = true; type = lib.types.str; default = config.nixpkgs.pkgs.system; description = "Accepted."; };
    flake.source = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; internal = true; description = "Accepted."; };
  };
  config._module.args.pkgs = config.nixpkgs.pkgs;
}

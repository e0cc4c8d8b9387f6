# What a hive says of itself as a whole: Colmena's options of `meta`, with its defaults.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  anything = types.attrsOf types.unspecified;
in
{
  _file = "bosco/nix/modules/meta.nix";

  options = {
    name = mkOption {
      type = types.str;
      default = "hive";
      description = "What the hive is called.";
    };
    description = mkOption {
      type = types.str;
      default = "A Colmena Hive";
      description = "What it is.";
    };
    nixpkgs = mkOption {
      type = types.unspecified;
      default = null;
      description = "The package set, or outside of flakes what gives one: a path, or what is in it.";
    };
    nodeNixpkgs = mkOption {
      type = anything;
      default = { };
      description = "The package sets of single nodes.";
    };
    specialArgs = mkOption {
      type = anything;
      default = { };
      description = "More arguments for all modules.";
    };
    nodeSpecialArgs = mkOption {
      type = anything;
      default = { };
      description = "More arguments for the modules of single nodes.";
    };
    machinesFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      apply = file: if file == null then null else toString file;
      description = "The machines that build, in the format of Nix's `builders`.";
    };
    allowApplyAll = mkOption {
      type = types.bool;
      default = true;
      description = "Whether all nodes may be deployed without a selector.";
    };
  };
}

# What a hive says about itself.
{ lib, ... }:
let option = type: default: description: lib.mkOption { inherit type default description; };
in {
  options = with lib.types; {
    name = option str "hive" "The hive's name.";
    description = option str "A Colmena Hive" "What the hive is.";
    nixpkgs = option unspecified null "The package set.";
    nodeNixpkgs = option (attrsOf unspecified) { } "Package sets of single nodes.";
    specialArgs = option (attrsOf unspecified) { } "Arguments for every node's modules.";
    nodeSpecialArgs = option (attrsOf unspecified) { } "Arguments for single nodes' modules.";
    machinesFile = option (nullOr path) null "The builders." // { apply = v: if v == null then null else toString v; };
    allowApplyAll = option bool true "Whether all nodes may be deployed without naming any.";
  };
}

# Modules to a NixOS configuration. The arguments are those that flakes, Colmena and others call it with.
given@{
  system ? builtins.currentSystem,
  pkgs ? null,
  lib ? import ../../lib,
  baseModules ? import ../modules/module-list.nix ++ [ fromArguments ],
  extraModules ? [ ],
  modules,
  modulesLocation ? (builtins.unsafeGetAttrPos "modules" given).file or null,
  specialArgs ? { },
  extraArgs ? { },
  check ? true,
  prefix ? [ ],
  fromArguments ? {
    _file = toString ./eval-config.nix;
    key = toString ./eval-config.nix;
    config = lib.mkMerge (
      lib.optional (system != null) { nixpkgs.system = lib.mkDefault system; }
      ++ lib.optional (pkgs != null) { nixpkgs.pkgs = pkgs; });
  },
}:
let
  located = if modulesLocation == null then modules else map (lib.setDefaultModuleLocation modulesLocation) modules;
  noUserModules = lib.evalModules {
    inherit prefix;
    class = "nixos";
    specialArgs = { modulesPath = toString ../modules; } // specialArgs;
    modules = baseModules ++ extraModules ++ [ {
      config._module.args = {
        inherit noUserModules baseModules extraModules modules;
        utils = import ./utils.nix { inherit lib; };
      };
    } ];
  };
  withUserModules = noUserModules.extendModules {
    modules = located
      ++ lib.optional (given ? extraArgs) { config._module.args = extraArgs; }
      ++ lib.optional (given ? check) { config._module.check = lib.mkDefault check; };
  };
  finish = evaluated: evaluated // {
    inherit extraArgs lib;
    inherit (evaluated._module.args) pkgs;
    extendModules = args: finish (evaluated.extendModules args);
  };
in finish withUserModules

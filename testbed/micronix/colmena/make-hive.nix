# A hive as its author wrote it, to one that can be asked: what `colmenaHive` holds.
raw:
let
  hive = if builtins.isFunction raw then raw { } else raw;
  reserved = [ "meta" "network" "defaults" ];

  given =
    if hive ? meta && hive ? network then
      throw "Only one of `network` and `meta` may be specified. `meta` should be used as `network` is for NixOps compatibility."
    else hive.meta or hive.network or { };

  # In a flake, a package set must come initialised: it cannot know for which system.
  set = name: nixpkgs:
    if builtins.isAttrs nixpkgs && nixpkgs ? lib && !(nixpkgs ? outputs) then nixpkgs
    else throw "Passing ${if nixpkgs ? outputs then "an uninitialized Nixpkgs input" else if builtins.isFunction nixpkgs then "a Nixpkgs lambda" else "a path to Nixpkgs"} as ${name} is no longer accepted with Flakes.\nPlease initialize Nixpkgs like the following:\n\n  ${name} = import nixpkgs { system = \"x86_64-linux\"; };\n";
  nixpkgs = set "meta.nixpkgs" (given.nixpkgs or (throw "meta.nixpkgs must be specified in hermetic mode."));
  inherit (nixpkgs) lib;

  meta = (lib.evalModules { modules = [ ./meta.nix given ]; }).config;
  names = builtins.filter (name: !builtins.elem name reserved) (builtins.attrNames hive);
  modulesOf = name: let m = hive.${name}; in if builtins.isList m then m else [ m ];

  evalNode = name: more:
    let pkgs = if meta.nodeNixpkgs ? ${name} then set "meta.nodeNixpkgs.${name}" meta.nodeNixpkgs.${name} else nixpkgs;
    in import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit (pkgs) system;
      specialArgs = { inherit name; nodes = unchecked; } // meta.specialArgs // meta.nodeSpecialArgs.${name} or { };
      modules = [
        { nixpkgs.overlays = lib.mkBefore pkgs.overlays; nixpkgs.config = lib.mkBefore pkgs.config; }
        ./deployment.nix
        ./keys.nix
        (hive.defaults or { })
      ] ++ more ++ modulesOf name;
    };
  unchecked = lib.genAttrs names (name: evalNode name [ { _module.check = false; } ]);
in rec {
  __schema = "v0.5";
  nodes = lib.genAttrs names (name: evalNode name [ ]);
  toplevel = lib.mapAttrs (_: node: node.config.system.build.toplevel) nodes;
  deploymentConfig = lib.mapAttrs (_: node: node.config.deployment) nodes;
  deploymentConfigSelected = chosen: lib.filterAttrs (name: _: lib.elem name chosen) deploymentConfig;
  evalSelected = chosen: lib.filterAttrs (name: _: lib.elem name chosen) toplevel;
  evalSelectedDrvPaths = chosen: lib.mapAttrs (_: drv: drv.drvPath) (evalSelected chosen);
  metaConfig = lib.filterAttrs (name: _: lib.elem name [ "name" "description" "machinesFile" "allowApplyAll" ]) meta;
  introspect = f: f { inherit lib; pkgs = nixpkgs; nodes = unchecked; };
}

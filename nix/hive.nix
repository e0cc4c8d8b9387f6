# A hive as its author writes it, to the nodes in it. The names are Colmena's, and what is built is what Colmena builds.
#
# `pure` is for flakes: there no `<nixpkgs>` is at hand, and a package set must come initialised, since nothing says for
# which system it should be. `modules` are those of the options of `deployment` and of `meta`, and those that a host of
# bosco's can have besides, which add nothing to one that uses none of them.
{ modules, pure }:
given:
let
  isFunction = value: builtins.isFunction value || builtins.isAttrs value && value ? __functor;
  hive =
    let
      called = if isFunction given then given { } else given;
    in
    if !builtins.isAttrs called then
      throw "the hive is no attribute set, and no function that gives one, but of type ${builtins.typeOf called}"
    else if called ? __schema then
      throw "the hive has been evaluated already, by Colmena's `makeHive`"
    else if called ? meta && called ? network then
      throw "the hive has both `meta` and `network`, which are two names of the same"
    else
      called;

  reserved = [
    "defaults"
    "meta"
    "network"
  ];
  names = builtins.filter (name: !builtins.elem name reserved) (builtins.attrNames hive);

  # The option's own type, from the module system, can't be asked before there is a nixpkgs to take that from.
  unchecked = hive.meta or hive.network or { };
  meta =
    (lib.evalModules {
      modules = [
        modules.meta
        (
          if hive ? network then
            {
              _file = "network";
              imports = [ unchecked ];
              # What only NixOps knows, as `enableRollback`.
              freeformType = lib.types.attrsOf lib.types.unspecified;
            }
          else
            {
              _file = "meta";
              imports = [ unchecked ];
            }
        )
      ];
    }).config;

  # What may stand for a package set, to a package set.
  initialised =
    option: value:
    let
      refuse = what: throw "`${option}` is ${what}, not an initialised package set";
    in
    if builtins.isPath value || builtins.isAttrs value && value ? outPath then
      if pure then
        refuse (if value ? outputs then "a flake" else "a path")
      else
        initialised option (import value)
    else if isFunction value then
      if pure then refuse "a function" else value { overlays = [ ]; }
    else if builtins.isAttrs value && value ? lib && value ? path then
      value
    else
      refuse "of type ${builtins.typeOf value}";

  pkgs = initialised "meta.nixpkgs" (
    if unchecked.nixpkgs or null != null then
      unchecked.nixpkgs
    else if pure then
      throw "the hive does not set `meta.nixpkgs`, and a flake has no `<nixpkgs>`"
    else
      <nixpkgs>
  );
  inherit (pkgs) lib;

  evaluate =
    more: name:
    let
      pkgsOfNode =
        if meta.nodeNixpkgs ? ${name} then
          initialised "meta.nodeNixpkgs.${name}" meta.nodeNixpkgs.${name}
        else
          pkgs;
      own = hive.${name};
    in
    import (pkgsOfNode.path + "/nixos/lib/eval-config.nix") {
      inherit (pkgsOfNode.stdenv.hostPlatform) system;
      specialArgs = {
        inherit name;
        nodes = loose;
      }
      // meta.specialArgs
      // meta.nodeSpecialArgs.${name} or { };
      # What Nix would take from the place of the next lines, had they a file. It decides about the order too: modules
      # with a place are one level deeper than those without.
      modulesLocation = "the hive";
      # Their order is part of what is built: it is that of lists that several of them define.
      modules = [
        {
          _file = "meta.nixpkgs";
          nixpkgs.overlays = lib.mkBefore pkgsOfNode.overlays;
          nixpkgs.config = lib.mkBefore pkgsOfNode.config;
        }
        modules.colmena
        modules.deployment
        modules.activation
        modules.host
        modules.secrets
        modules.agent
        modules.hub
        (hive.defaults or { })
      ]
      ++ more
      ++ (if builtins.isList own then own else [ own ]);
    };
  all = more: lib.genAttrs names (evaluate more);

  # What nodes see of one another. A mistake in one of them is told of that one, and not looked for again by each.
  loose = all [ { _module.check = false; } ];
in
{
  nodes = all [ ];
  metaConfig = {
    inherit (meta)
      name
      description
      machinesFile
      allowApplyAll
      ;
  };
  introspect =
    f:
    f {
      inherit lib pkgs;
      nodes = loose;
    };
}

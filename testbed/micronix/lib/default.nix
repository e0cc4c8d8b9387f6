# The library: what users' flakes call `nixpkgs.lib`. Only what small configurations use, under the real names.
let
  fix = f: let self = f self; in self;

  lib = fix (self: let
    load = file: import file { lib = self; };
    merge = builtins.foldl' (all: part: all // part) { };
    pick = names: set: builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) names)) set;
  in let parts = {
    trivial = load ./trivial.nix;
    fixedPoints = load ./fixed-points.nix;
    attrsets = load ./attrsets.nix;
    lists = load ./lists.nix;
    strings = load ./strings.nix;
    stringsWithDeps = load ./strings-with-deps.nix;
    generators = load ./generators.nix;
    options = load ./options.nix;
    types = load ./types.nix;
    modules = load ./modules.nix;
    asserts = load ./asserts.nix;
    debug = load ./debug.nix;
    customisation = load ./customisation.nix;
    filesystem = load ./filesystem.nix;
    sources = load ./sources.nix;
    meta = load ./meta.nix;
    systems = load ./systems.nix;
    cli = load ./cli.nix;
    licenses = load ./licenses.nix;
    maintainers = { };
    teams = { };
    platforms = self.systems.doubles;

    # `lib.extend (final: prev: { … })`, as users do to add functions of their own.
    extend = overlay: fix (final: (self // { extend = self.extend; }) // overlay final self);

    nixosSystem = args: import ../nixos/lib/eval-config.nix ({ lib = self; system = null; } // removeAttrs args [ "lib" ]
      // (if args ? lib then { inherit (args) lib; } else { })
      // {
        modules = args.modules ++ [ { config.nixpkgs.flake.source = self.mkOptionDefault (toString ../.); } ];
        modulesLocation = args.modulesLocation or (builtins.unsafeGetAttrPos "modules" args).file or null;
      });
  }; in parts // merge [
    parts.trivial parts.fixedPoints parts.attrsets parts.lists parts.strings parts.stringsWithDeps parts.customisation
    parts.filesystem parts.sources parts.meta
    (removeAttrs parts.modules [ "importJSON" "importTOML" "importApply" "normalise" "collect" "load" ])
    (removeAttrs parts.options [ "mergeModules" ])
    (pick [ "isType" "setType" "isOptionType" "mkOptionType" "defaultTypeMerge" "defaultFunctor" ] parts.types)
    (pick [ "assertMsg" "assertOneOf" ] parts.asserts)
    (pick [ "traceIf" "traceVal" "traceValFn" "traceSeq" "traceValSeq" ] parts.debug)
    (pick [ "mkLuaInline" ] parts.generators)
  ]);
in lib

# The packages. There are few: what is built here is text and links, by busybox; programs are those of the base system.
{ lib, system, config, overlays }:
let
  set = if builtins.isString system then system else system.system;

  base = final: {
    _type = "pkgs";
    inherit lib config overlays;
    system = set;
    path = ../.;
    pkgs = final;
    hostPlatform = final.stdenv.hostPlatform;
    targetPlatform = final.stdenv.hostPlatform;
    buildPackages = final;
    pkgsBuildBuild = final;
    callPackage = final.newScope { };
    callPackages = lib.callPackagesWith final;
    newScope = extra: lib.callPackageWith (final // extra);
    appendOverlays = more: import ./. { inherit lib config system; overlays = overlays ++ more; };
    extend = overlay: final.appendOverlays [ overlay ];
  };
in
lib.fix (lib.foldl' (lib.flip lib.extends) base ([
  (final: _: import ./stdenv.nix { inherit final lib; system = set; })
  (final: _: import ./trivial-builders.nix { inherit final lib; })
  (final: _: import ./packages.nix { inherit final lib; })
] ++ overlays))

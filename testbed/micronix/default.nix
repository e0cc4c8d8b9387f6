# The package set: `import <nixpkgs> { system = …; config = …; overlays = …; }`.
{ system ? args.localSystem.system or args.localSystem or builtins.currentSystem, config ? { }, overlays ? [ ], ... }@args:
import ./pkgs { inherit system config overlays; lib = import ./lib; }

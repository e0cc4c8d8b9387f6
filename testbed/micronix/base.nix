# The system of a freshly installed host: reachable by SSH with a key, and nothing else. It has no name of its own, so
# the name that the machine already has stays.
{ system ? builtins.currentSystem }:
let
  evaluated = import ./nixos/lib/eval-config.nix {
    inherit system;
    modules = [ ./base-module.nix ];
  };
in {
  inherit (evaluated) config options pkgs;
  inherit (evaluated.config.system.build) toplevel;
}

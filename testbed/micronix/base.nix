# The system of a freshly installed host: reachable by SSH with a key, and nothing else. It has no name of its own, so
# the name that the machine already has stays. `grub` is the same with GRUB.
{ system ? builtins.currentSystem }:
let
  with' = modules: import ./nixos/lib/eval-config.nix {
    inherit system;
    modules = [ ./base-module.nix ] ++ modules;
  };
  evaluated = with' [ ];
in {
  inherit (evaluated) config options pkgs;
  inherit (evaluated.config.system.build) toplevel;
  grub = (with' [ { boot.loader.systemd-boot.enable = false; } ]).config.system.build.toplevel;
}

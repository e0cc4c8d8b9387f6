{
  description = "A small fleet: two web servers, a database, a laptop and the hub that it pulls from";

  # Whatever `nixpkgs` means to you: `nix registry list` says. Pin a branch with
  # "github:NixOS/nixpkgs/nixos-26.05", for example.
  inputs.nixpkgs.url = "nixpkgs";
  # For hosts that pull: bosco's modules, from its checkout, and the program, from where `cargo xtask install` has put it.
  inputs.bosco.url = "git+file:///src/bosco";
  inputs.program = {
    url = "path:/opt/bosco";
    flake = false;
  };

  outputs =
    {
      nixpkgs,
      bosco,
      program,
      ...
    }:
    let
      system =
        name:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          specialArgs = { inherit program; };
          modules = [
            bosco.nixosModules.default
            ./common.nix
            ./hosts/${name}.nix
            { networking.hostName = name; }
          ];
        };
    in
    {
      # Hosts that are only pushed to need nothing else. A host is reached by its name here, as root, with your own ssh.
      nixosConfigurations = nixpkgs.lib.genAttrs [ "db" "hub" "laptop" "web-1" "web-2" ] system;
    };
}

{
  description = "A small fleet: two web servers and a database";

  # Whatever `nixpkgs` means to you: `nix registry list` says. Pin a branch with
  # "github:NixOS/nixpkgs/nixos-26.05", for example.
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    let
      system =
        name:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            ./common.nix
            ./hosts/${name}.nix
            { networking.hostName = name; }
          ];
        };
    in
    {
      # bosco needs nothing else. A host is reached by its name here, as root, with your own ssh.
      nixosConfigurations = nixpkgs.lib.genAttrs [ "db" "web-1" "web-2" ] system;
    };
}

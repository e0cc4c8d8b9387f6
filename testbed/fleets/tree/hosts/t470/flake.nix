# A host that is a flake, with its one system.
{
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations.bento-machine = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          ./utils/common.nix
          { networking.hostName = "t470"; }
        ];
      };
    };
}

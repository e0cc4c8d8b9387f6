# A hive in a flake as it is written for Colmena without `makeHive`: nothing in it is for bosco.
{
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      colmena = import ./hosts.nix (import nixpkgs { system = "x86_64-linux"; });
    };
}

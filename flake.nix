{
  description = "bosco keeps a fleet of NixOS machines at what one git repository says";

  outputs = _: {
    nixosModules = {
      # `deployment.targetHost`, `deployment.tags` and the like, for fleets that do not use Colmena.
      deployment = ./nix/modules/deployment.nix;
      default = ./nix/modules/deployment.nix;
    };
  };
}

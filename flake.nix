{
  description = "bosco keeps a fleet of NixOS machines at what one git repository says";

  outputs = _: rec {
    nixosModules = {
      # All of it, for fleets that do not use Colmena.
      default.imports = [
        nixosModules.deployment
        nixosModules.host
      ];
      # `deployment.targetHost`, `deployment.tags` and the like, which Colmena declares too, and those of `activation`.
      deployment.imports = [
        ./nix/modules/deployment.nix
        nixosModules.activation
      ];
      # Only what Colmena does not declare, to go beside its own: `deployment.healthChecks` and `deployment.update`.
      activation = ./nix/modules/activation.nix;
      # `services.bosco.enable`, for any.
      host = ./nix/modules/host.nix;
    };
  };
}

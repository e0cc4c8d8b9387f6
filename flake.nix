{
  description = "bosco keeps a fleet of NixOS machines at what one git repository says";

  outputs = _: rec {
    nixosModules = {
      # All of it, for fleets that do not use Colmena.
      default.imports = [
        nixosModules.deployment
        nixosModules.host
        nixosModules.agent
        nixosModules.hub
      ];
      # `deployment.targetHost`, `deployment.tags`, `deployment.keys` and the like, which Colmena declares too, and those of `activation`.
      deployment.imports = [
        ./nix/modules/deployment.nix
        ./nix/modules/keys.nix
        ./nix/modules/secrets.nix
        nixosModules.activation
      ];
      # Only what Colmena does not declare, to go beside its own: `deployment.healthChecks`, `deployment.update` and
      # `deployment.publicKeys`.
      activation = ./nix/modules/activation.nix;
      # `services.bosco.enable`, for any.
      host.imports = [
        ./nix/modules/host.nix
        ./nix/modules/secrets.nix
      ];
      # `sops`, in place of sops-nix, for any.
      sops.imports = [
        ./nix/modules/sops.nix
        ./nix/modules/secrets.nix
      ];
      # `services.bosco.agent`: the host fetches what releases say.
      agent = ./nix/modules/agent.nix;
      # `services.bosco.hub`: the machine is the fleet's hub.
      hub = ./nix/modules/hub.nix;
    };
  };
}

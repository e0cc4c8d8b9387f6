{
  # A stand-in for Colmena's flake, written for the tests: the same outputs and options, none of its code. A fleet that
  # says `colmenaHive = colmena.lib.makeHive { … }` evaluates with either.
  description = "A stand-in for Colmena's flake, for tests";

  # Not used; Colmena has it, and flakes say `inputs.colmena.inputs.nixpkgs.follows`.
  inputs.nixpkgs.url = "nixpkgs";

  outputs = _: {
    lib.makeHive = import ./make-hive.nix;
    nixosModules = {
      deploymentOptions = ./deployment.nix;
      metaOptions = ./meta.nix;
      keyServiceModule = ./keys.nix;
    };
  };
}

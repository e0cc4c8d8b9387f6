{
  # A stand-in for Colmena's flake, written for the tests: the same outputs and options, none of its code. A fleet that
  # says `colmenaHive = colmena.lib.makeHive { … }` evaluates with either.
  description = "A stand-in for Colmena's flake, for tests";

  outputs = _: {
    lib.makeHive = import ./make-hive.nix;
    nixosModules = {
      deploymentOptions = ./deployment.nix;
      metaOptions = ./meta.nix;
      keyServiceModule = ./keys.nix;
    };
  };
}

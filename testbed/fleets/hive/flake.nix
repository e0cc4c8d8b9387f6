# A hive, as people write it who use Colmena: nothing in it is for bosco.
{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.colmena.url = "colmena";
  inputs.colmena.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, colmena, ... }:
    {
      colmenaHive = colmena.lib.makeHive {
        meta = {
          nixpkgs = import nixpkgs { system = "x86_64-linux"; };
          specialArgs.greeting = "hello from the hive";
        };

        defaults =
          { greeting, ... }:
          {
            services.openssh.enable = true;
            environment.etc."greeting".text = greeting;
            system.stateVersion = "26.05";
          };

        host1 =
          { name, nodes, ... }:
          {
            deployment.tags = [ "web" ];
            networking.hostName = name;
            environment.etc."others".text = toString (builtins.attrNames nodes);
          };

        host2 =
          { name, ... }:
          {
            deployment = {
              tags = [
                "web"
                "canary"
              ];
              targetUser = "root";
            };
            networking.hostName = name;
          };

        laptop =
          { name, ... }:
          {
            deployment = {
              targetHost = null;
              allowLocalDeployment = true;
            };
            networking.hostName = name;
          };
      };
    };
}

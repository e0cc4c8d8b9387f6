pkgs: {
  meta = {
    nixpkgs = pkgs;
    description = "Two web servers and a database";
    specialArgs.greeting = "hello";
    nodeSpecialArgs.web-2.greeting = "hello from the second";
    nodeNixpkgs.db = pkgs.extend (_: _: { vintage = "old"; });
    machinesFile = ./machines;
  };

  defaults =
    {
      name,
      greeting,
      pkgs,
      ...
    }:
    {
      networking.hostName = name;
      services.openssh.enable = true;
      environment.etc."greeting".text = "${greeting}, ${pkgs.vintage or "new"}\n";
      environment.systemPackages = [ pkgs.hello ];
      system.stateVersion = "26.05";
    };

  web-1 =
    { nodes, ... }:
    {
      deployment.tags = [ "web" ];
      environment.etc."database".text = nodes.db.config.networking.hostName;
    };

  web-2 = [
    ./web-2.nix
    { deployment.tags = [ "web" ]; }
  ];

  db =
    { pkgs, ... }:
    {
      deployment = {
        targetHost = "db.example.org";
        targetPort = 2222;
      };
      environment.systemPackages = [ pkgs.figlet ];
    };
}

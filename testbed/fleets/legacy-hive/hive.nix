# A hive without flakes, as it came from NixOps: `network` instead of `meta`, with what only NixOps knows.
{
  network = {
    description = "Two servers";
    enableRollback = true;
    specialArgs.greeting = "hello";
  };

  defaults =
    { name, greeting, ... }:
    {
      networking.hostName = name;
      services.openssh.enable = true;
      environment.etc."greeting".text = greeting;
      system.stateVersion = "26.05";
    };

  mail = ./mail.nix;

  web =
    { nodes, ... }:
    {
      deployment.tags = [ "web" ];
      environment.etc."mail".text = nodes.mail.config.networking.hostName;
    };
}

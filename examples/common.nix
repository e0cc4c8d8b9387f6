# What all hosts share. A real machine also imports its own hardware-configuration.nix.
{ ... }:
{
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keyFiles = [ ./operator.pub ];

  # The hub, where no name server knows it.
  networking.hosts."10.0.0.1" = [ "hub" ];

  environment.etc."motd".text = "Kept by bosco.\n";

  system.stateVersion = "26.05";
}

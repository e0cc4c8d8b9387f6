# What all hosts share. A real machine also imports its own hardware-configuration.nix.
{ ... }:
{
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keyFiles = [ ./operator.pub ];

  environment.etc."motd".text = "Kept by bosco.\n";

  system.stateVersion = "26.05";
}

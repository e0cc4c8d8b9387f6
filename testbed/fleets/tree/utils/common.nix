{ pkgs, ... }:
{
  services.openssh.enable = true;
  environment.etc."motd-of-all".source = ./motd;
  system.stateVersion = "26.05";
}

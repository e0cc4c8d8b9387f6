{ lib, ... }:
{
  services.openssh.enable = true;
  environment.etc."greeting".text = lib.mkDefault "one\n";
  system.stateVersion = "26.05";
}

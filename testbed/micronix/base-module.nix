# What a freshly installed host's configuration says.
{ lib, ... }: {
  networking.hostName = lib.mkDefault "";
  networking.firewall.enable = lib.mkDefault false;
  services.openssh.enable = true;
  boot.loader.systemd-boot.enable = lib.mkDefault true;
  system.stateVersion = lib.mkDefault lib.trivial.release;
}

{
  services.openssh.enable = true;
  users.users.ada.isNormalUser = true;
  environment.etc.version.text = (import ./versions.nix).system;
  system.stateVersion = "26.05";
}

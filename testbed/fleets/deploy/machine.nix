{
  services.openssh.enable = true;
  users.users.ada.isNormalUser = true;
  # The test machines' Nix is Debian's, which serves this group.
  users.users.ada.extraGroups = [ "nix-users" ];
  users.groups.nix-users = { };
  environment.etc.version.text = (import ./versions.nix).system;
  system.stateVersion = "26.05";
}

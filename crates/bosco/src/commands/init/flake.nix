# A fleet of one host. Each further host is one more of `nixosConfigurations`.
{
  # A release is named like this: github:NixOS/nixpkgs/nixos-26.05
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations.server = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          {
            networking.hostName = "server";

            # What `nixos-generate-config` has found on the machine says this better: copy its
            # hardware-configuration.nix to this folder, and put `./hardware-configuration.nix` in the place of these lines.
            fileSystems."/" = {
              device = "/dev/disk/by-label/nixos";
              fsType = "ext4";
            };
            fileSystems."/boot" = {
              device = "/dev/disk/by-label/boot";
              fsType = "vfat";
            };
            boot.loader.systemd-boot.enable = true;

            # `bosco apply` logs in as root at the host's name, unless your ssh configuration says otherwise.
            services.openssh.enable = true;
            users.users.root.openssh.authorizedKeys.keys = [
              # "ssh-ed25519 AAAA… you"
            ];

            # What the machine was installed with; it stays when the rest moves on.
            system.stateVersion = "26.05";
          }
        ];
      };
    };
}

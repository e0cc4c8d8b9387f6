# A fleet as it is written for deploy-rs: nothing in it is for bosco.
{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.deploy-rs.url = "deploy-rs";

  outputs =
    {
      self,
      nixpkgs,
      deploy-rs,
    }:
    let
      pkgs = nixpkgs.legacyPackages.x86_64-linux;
      inherit (deploy-rs.lib.x86_64-linux) activate;
      # A program that tells, each time, what it was started with.
      app =
        name:
        let
          tells = ''
            echo "${name} $(cat $PROFILE/share/${name}) of $(id -un) in $HOME, $PROFILE, DRY_ACTIVATE=$DRY_ACTIVATE BOOT=$BOOT" >> /srv/activations
          '';
        in
        (activate.custom // { boot = tells; })
          (pkgs.writeTextDir "share/${name}" (import ./versions.nix).${name})
          ''
            ${tells}
            ! grep -q hangs $PROFILE/share/${name} || sleep 1000
            ! grep -q waits $PROFILE/share/${name} || until [ -e /srv/go ]; do sleep 0.1; done
            ! grep -q broken $PROFILE/share/${name}
          '';
      system =
        name:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            ./machine.nix
            { networking.hostName = name; }
          ];
        };
    in
    {
      nixosConfigurations.host1 = system "host1";
      nixosConfigurations.host2 = system "host2";

      deploy = {
        sshUser = "root";
        user = "root";
        fastConnection = true;
        nodes.host1 = {
          hostname = "host1";
          profilesOrder = [
            "system"
            "tool"
          ];
          profiles = {
            home = {
              user = "ada";
              path = app "home";
            };
            system.path = activate.nixos self.nixosConfigurations.host1;
            tool.path = app "tool";
          };
        };
        # Its system is somebody else's.
        nodes.host2 = {
          hostname = "host2";
          groups = [ "homes" ];
          profiles.home = {
            user = "ada";
            sshOpts = [
              "-o"
              "ServerAliveInterval=20"
            ];
            path = app "home";
          };
        };
      };
    };
}

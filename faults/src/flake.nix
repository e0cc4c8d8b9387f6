{
  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      system =
        kind: letter:
        lib.nixosSystem {
          system = "x86_64-linux";
          specialArgs = { inherit kind letter; };
          modules = [
            ./activation.nix
            ./host.nix
            ./secrets.nix
            ./system.nix
          ];
        };
      hosts = builtins.attrNames (builtins.readDir ./letters);
      kindOf = name: if lib.hasPrefix "module" name then "module" else "plain";
      letterOf = name: builtins.readFile (./letters + "/${name}");
    in
    {
      # Hosts with bosco's module have a profile beside their system.
      deploy.nodes = lib.genAttrs hosts (
        name:
        let
          path = self.nixosConfigurations.${name}.config.system.build.toplevel;
        in
        {
          hostname = name;
          user = "root";
          profiles = {
            system = { inherit path; };
          }
          // lib.optionalAttrs (kindOf name == "module") { app = { inherit path; }; };
        }
      );
      nixosConfigurations = lib.genAttrs hosts (name: system (kindOf name) (letterOf name));
      systems = lib.genAttrs [ "plain" "module" ] (
        kind:
        lib.genAttrs [ "a" "b" "c" "d" "e" "f" ] (
          letter: (system kind letter).config.system.build.toplevel
        )
      );
    };
}

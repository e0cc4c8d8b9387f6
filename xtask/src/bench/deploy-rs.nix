# What a fleet takes from deploy-rs's own flake, built from micronix: the same files with the same words, around an
# `activate` that lies beside this file.
{
  inputs.nixpkgs.url = "nixpkgs";

  outputs = { nixpkgs, ... }: {
    lib.x86_64-linux.activate.nixos = host:
      let
        pkgs = nixpkgs.legacyPackages.x86_64-linux;
        inherit (host.config.system.build) toplevel;
        activate-rs = pkgs.runCommand "deploy-rs-activate-rs" { } ''
          mkdir -p $out/bin
          cp ${./activate} $out/bin/activate
          chmod 755 $out/bin/activate
        '';
        script = name: destination: text: pkgs.writeTextFile {
          inherit destination;
          name = "${toplevel.name}-${name}";
          text = "#!${pkgs.runtimeShell}\n${text}";
          executable = true;
        };
      in pkgs.buildEnv {
        name = "activatable-${toplevel.name}";
        paths = [
          toplevel
          (script "activate-path" "/deploy-rs-activate" ''
            set -euo pipefail
            if [[ "''${DRY_ACTIVATE:-}" == "1" ]]; then
              $PROFILE/bin/switch-to-configuration dry-activate
            elif [[ "''${BOOT:-}" == "1" ]]; then
              $PROFILE/bin/switch-to-configuration boot
            else
              cd /tmp
              $PROFILE/bin/switch-to-configuration switch
            fi
          '')
          (script "activate-rs" "/activate-rs" ''
            exec ${activate-rs}/bin/activate "$@"
          '')
        ];
      };
  };
}

{
  # A stand-in for deploy-rs's flake, written for the tests: the same outputs and the same files with the same words in what
  # it makes, none of its code. A fleet that says `deploy-rs.lib.x86_64-linux.activate.nixos host` evaluates with either.
  # Where deploy-rs's own program for hosts, `activate`, lies beside this file, that is in there as well.
  description = "A stand-in for deploy-rs's flake, for tests";

  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      lib.x86_64-linux.activate =
        let
          pkgs = nixpkgs.legacyPackages.x86_64-linux;
          program =
            if builtins.pathExists ./activate then
              pkgs.runCommand "deploy-rs-activate-rs" { } ''
                mkdir -p $out/bin
                cp ${./activate} $out/bin/activate
                chmod 755 $out/bin/activate
              ''
            else
              "/deploy-rs-is-not-here";
          script =
            name: destination: text:
            pkgs.writeTextFile {
              inherit name destination;
              text = "#!${pkgs.runtimeShell}\n${text}";
              executable = true;
            };
          made =
            {
              base,
              activate,
              dryActivate ? "echo ${pkgs.writeText "activate" activate}",
              boot ? "echo ${pkgs.writeText "activate" activate}",
            }:
            pkgs.buildEnv {
              name = "activatable-${base.name}";
              paths = [
                base
                (script "${base.name}-activate-path" "/deploy-rs-activate" ''
                  set -euo pipefail

                  if [[ "''${DRY_ACTIVATE:-}" == "1" ]]
                  then
                    ${dryActivate}
                  elif [[ "''${BOOT:-}" == "1" ]]
                  then
                    ${boot}
                  else
                    ${activate}
                  fi
                '')
                (script "${base.name}-activate-rs" "/activate-rs" ''
                  exec ${program}/bin/activate "$@"
                '')
              ];
            };
        in
        rec {
          # With `custom // { boot = …; }` a fleet says what is to be done where it is only to be the next boot's.
          custom.__functor =
            self: base: activate:
            made (
              builtins.intersectAttrs {
                dryActivate = null;
                boot = null;
              } self
              // {
                inherit base activate;
              }
            );
          noop = base: custom base ":";
          home-manager = base: custom base.activationPackage "$PROFILE/activate";
          nixos =
            base:
            made {
              base = base.config.system.build.toplevel;
              dryActivate = "$PROFILE/bin/switch-to-configuration dry-activate";
              boot = "$PROFILE/bin/switch-to-configuration boot";
              # The second line: deploy-rs has systemd-boot boot the newest entry.
              activate = ''
                cd /tmp
                $PROFILE/bin/switch-to-configuration switch
                sed -i '/^default /d' /boot/loader/loader.conf
              '';
            };
        };
    };
}

# What users find in their shells.
{ config, pkgs, lib, ... }:
let cfg = config.environment;
in {
  options = {
    environment = {
      systemPackages = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "What is in everybody's PATH."; };
      defaultPackages = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "What is there unless taken away."; };
      pathsToLink = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Which folders of packages are linked."; };
      variables = lib.mkOption {
        type = lib.types.attrsOf (lib.types.either lib.types.str (lib.types.listOf lib.types.str));
        default = { };
        apply = lib.mapAttrs (_: v: if builtins.isList v then lib.concatStringsSep ":" v else v);
        description = "What is set in everybody's environment.";
      };
      sessionVariables = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; description = "The same, set by PAM."; };
      shellAliases = lib.mkOption { type = lib.types.attrsOf (lib.types.nullOr lib.types.str); default = { }; description = "Taken."; };
      shells = lib.mkOption { type = lib.types.listOf lib.types.unspecified; default = [ ]; description = "Taken."; };
      shellInit = lib.mkOption { type = lib.types.lines; default = ""; description = "Run in every shell."; };
      interactiveShellInit = lib.mkOption { type = lib.types.lines; default = ""; description = "Taken."; };
      extraInit = lib.mkOption { type = lib.types.lines; default = ""; description = "Taken."; };
      noXlibs = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
      stub-ld.enable = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    };
    system.path = lib.mkOption { internal = true; description = "The packages in everybody's PATH, as one tree."; };
  };

  config = {
    # A machine's own tools: what NixOS has in every system.
    environment.systemPackages = [ config.nix.package config.systemd.package config.system.build.bootctl ]
      ++ [ pkgs.bash pkgs.iproute2 pkgs.openssh pkgs.shadow pkgs.base-tools ];
    environment.pathsToLink = [ "/bin" "/etc" "/share" ];
    system.path = pkgs.buildEnv { name = "system-path"; paths = cfg.systemPackages; inherit (cfg) pathsToLink; };
    environment.etc.set-environment.text = lib.concatLines (lib.mapAttrsToList (k: v: "export ${k}=${lib.escapeShellArg v}") cfg.variables) + cfg.shellInit;
    environment.etc."profile.d/nixos.sh".text = ''
      export PATH=/run/wrappers/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:$PATH
      . /etc/set-environment
    '';
  };
}

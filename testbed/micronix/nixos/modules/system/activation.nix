# The script that makes a machine what its configuration says: at boot, and at every switch.
{ config, pkgs, lib, ... }:
let
  snippets = lib.mapAttrs (_: v: if builtins.isString v then lib.noDepEntry v else v) config.system.activationScripts;
  # Each snippet, with a word if it failed. One that fails does not stop the others.
  withHeadline = lib.mapAttrs (name: v: {
    inherit (v) deps;
    text = lib.optionalString (v.text != "") ''
      #### Activation script snippet ${name}:
      _localstatus=0
      ${v.text}

      if (( _localstatus > 0 )); then
        printf "Activation script snippet '%s' failed (%s)\n" "${name}" "$_localstatus"
      fi
    '';
  });
  inOrder = set: let entries = withHeadline set; in lib.concatStringsSep "\n" (lib.textClosureList entries (lib.attrNames entries));
  script = dry: ''
    #!${pkgs.runtimeShell}
    systemConfig='@out@'

    export PATH=/empty
    for i in ${toString (lib.unique (map toString [ pkgs.coreutils pkgs.shadow ]))}; do
      PATH=$PATH:$i/bin:$i/sbin
    done

    _status=0
    trap "_status=1 _localstatus=\$?" ERR
    umask 0022
    ${lib.optionalString dry "export NIXOS_ACTION=dry-activate"}

    ${inOrder (if !dry then snippets else lib.mapAttrs (_: v: v // { text = lib.optionalString (v.supportsDryActivation or false) v.text; }) snippets)}
  '';
  finish = ''
    # Make this configuration the current configuration.
    ln -sfn "$(readlink -f "$systemConfig")" /run/current-system

    # Prevent the current configuration from being garbage-collected.
    mkdir -p /nix/var/nix/gcroots
    ln -sfn /run/current-system /nix/var/nix/gcroots/current-system

    exit $_status
  '';
  snippet = withDry: lib.types.attrsOf (lib.types.either lib.types.str (lib.types.submodule {
    options = {
      deps = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "The snippets that go before."; };
      text = lib.mkOption { type = lib.types.lines; description = "The snippet."; };
    } // lib.optionalAttrs withDry {
      supportsDryActivation = lib.mkOption { type = lib.types.bool; default = false; description = "Whether it runs, asking NIXOS_ACTION, in a dry activation too."; };
    };
  }));
in {
  options.system = {
    activationScripts = lib.mkOption {
      default = { };
      type = snippet true;
      description = "Snippets of the activation script.";
      # As a set of snippets; the whole text is in `script`.
      apply = set: set;
    };
    userActivationScripts = lib.mkOption {
      default = { };
      type = snippet false;
      description = "Snippets that each user's session runs.";
      apply = set: set // {
        script = ''
          export PATH=${pkgs.coreutils}/bin
          _status=0
          trap "_status=1 _localstatus=\$?" ERR

          ${inOrder (lib.mapAttrs (_: v: if builtins.isString v then lib.noDepEntry v else v) set)}

          exit $_status
        '';
      };
    };
    dryActivationScript = lib.mkOption { type = lib.types.lines; readOnly = true; internal = true; default = script true; description = "The dry run's script."; };
    build.activationScript = lib.mkOption { internal = true; description = "The activation script's text, with @out@ for the toplevel."; };
    build.dryActivationScript = lib.mkOption { internal = true; description = "The dry activation script's text, with @out@ for the toplevel."; };
  };
  options.environment.usrbinenv = lib.mkOption { type = lib.types.nullOr lib.types.path; default = null; internal = true; description = "Taken: the base system has /usr/bin/env."; };

  config.system = {
    build.activationScript = script false + finish;
    build.dryActivationScript = script true;
    activationScripts = {
      stdio = "";
      specialfs = "";
      binsh = lib.stringAfter [ "stdio" ] "";
      var = ''
        mkdir -p -m 1777 /var/tmp
        mkdir -p -m 0555 /var/empty
      '';
      wrappers = "";
      tmpfs = "";
    };
  };
}

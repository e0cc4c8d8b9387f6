# The files of /etc. A file that is not declared stays as the base system has it.
{ config, pkgs, lib, ... }:
let
  files = lib.filter (f: f.enable) (lib.attrValues config.environment.etc);
  # A text that refers to nothing in the store needs no build.
  fileOf = name: text: if builtins.hasContext text then pkgs.writeText name text else builtins.toFile name text;
in {
  options.environment.etc = lib.mkOption {
    default = { };
    description = "The files of /etc.";
    type = lib.types.attrsOf (lib.types.submodule ({ name, config, options, ... }: {
      options = {
        enable = lib.mkOption { type = lib.types.bool; default = true; description = "Whether the file is made."; };
        target = lib.mkOption { type = lib.types.str; default = name; description = "Its path below /etc."; };
        text = lib.mkOption { type = lib.types.nullOr lib.types.lines; default = null; description = "Its text."; };
        source = lib.mkOption { type = lib.types.path; description = "Where its contents come from."; };
        mode = lib.mkOption { type = lib.types.str; default = "symlink"; description = "Its mode, if it is to be a file of its own, not a link."; };
        uid = lib.mkOption { type = lib.types.int; default = 0; description = "Its owner's number."; };
        gid = lib.mkOption { type = lib.types.int; default = 0; description = "Its group's number."; };
        user = lib.mkOption { type = lib.types.str; default = "+${toString config.uid}"; description = "Its owner."; };
        group = lib.mkOption { type = lib.types.str; default = "+${toString config.gid}"; description = "Its group."; };
      };
      config = {
        target = lib.mkDefault name;
        source = lib.mkIf (config.text != null) (
          lib.mkDerivedConfig options.text (fileOf ("etc-" + lib.strings.sanitizeDerivationName (baseNameOf name))));
      };
    }));
  };

  config = {
    system.build.etc =
      let
        folders = lib.unique (map (f: dirOf "etc/${f.target}") files);
        put = f: ''
          ln -s ${lib.escapeShellArgs [ "${f.source}" "etc/${f.target}" ]}
          ${lib.optionalString (f.mode != "symlink") "echo ${f.mode} > ${lib.escapeShellArg "etc/${f.target}.mode"}"}
          ${lib.optionalString (f.mode != "symlink" && f.mode != "direct-symlink") ''
            echo ${lib.escapeShellArg f.user} > ${lib.escapeShellArg "etc/${f.target}.uid"}
            echo ${lib.escapeShellArg f.group} > ${lib.escapeShellArg "etc/${f.target}.gid"}
          ''}
        '';
      in pkgs.runCommand "etc" { } ''
        mkdir -p $out/etc
        cd $out
        mkdir -p ${lib.escapeShellArgs folders}
        ${lib.concatMapStrings put files}
      '';
    system.activationScripts.etc = lib.stringAfter [ "users" "groups" "specialfs" ] ''
      # Set up the statically computed bits of /etc.
      echo "setting up /etc..."
      ${pkgs.bash}/bin/bash ${../../../activation/setup-etc.sh} ${config.system.build.etc}/etc
    '';
  };
}

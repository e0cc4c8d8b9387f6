# What Colmena declares on every node besides the options of `deployment.nix`: the rest of `deployment`, and what keys
# mean on the host. For hives that bosco evaluates itself; one that Colmena's `makeHive` made has it from there.
#
# A host without keys gets nothing from here, so its toplevel is the one that Colmena gives. Nothing that reaches a host
# may look at a key's `text`, `keyFile` or `keyCommand`: they would end up in its store.
{
  name,
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.deployment) keys;

  early = lib.filterAttrs (_: key: key.uploadAt == "pre-activation") keys;

  own = key: ''
    if [ ! -f "${key.path}" ]; then
      echo "the key ${key.path} is not there, so nobody owns it" >&2
    elif ! chown ${key.user}:${key.group} "${key.path}"; then
      unowned=1
    fi
  '';
in
{
  _file = "bosco/nix/modules/colmena.nix";

  config = {
    deployment.targetHost = lib.mkOptionDefault name;

    assertions = lib.mapAttrsToList (
      key: declared:
      let
        option = "${name}.deployment.keys.${key}";
        given = builtins.filter (source: source != null) [
          declared.text
          declared.keyFile
          declared.keyCommand
        ];
      in
      {
        assertion = builtins.length given == 1;
        message = "Exactly one of `${option}.text`, `${option}.keyFile` and `${option}.keyCommand` must be set.";
      }
    ) keys;

    # Users and groups that the new system declares are there only now.
    system.activationScripts.colmena-chown-keys = lib.mkIf (early != { }) (
      lib.stringAfter [ (if config.system.activationScripts ? groups then "groups" else "users") ] ''
        unowned=
        ${lib.concatStrings (map own (builtins.attrValues early))}
        # The last command's failure is what the activation reports.
        [ -z "$unowned" ]
      ''
    );

    # A unit is active while its key is there, for services to order themselves after it.
    systemd.paths = lib.mapAttrs' (
      key: declared:
      lib.nameValuePair "${key}-key" {
        wantedBy = [ "paths.target" ];
        pathConfig.PathExists = declared.path;
      }
    ) keys;
    systemd.services = lib.mapAttrs' (
      key: declared:
      lib.nameValuePair "${key}-key" {
        path = [ pkgs.inotify-tools ];
        serviceConfig = {
          TimeoutStartSec = "infinity";
          Restart = "always";
          RestartSec = "100ms";
        };
        preStart = ''
          until [ -e "${declared.path}" ]; do sleep 0.5; done
        '';
        # It may go between the two: then the watch fails at once, and the next look ends it. One that somebody has open
        # is gone without being deleted, which is a change of its attributes.
        script = ''
          while [ -e "${declared.path}" ]; do
            inotifywait -qq -t 3600 -e attrib -e delete_self -e move_self "${declared.path}" || sleep 0.5
          done
        '';
      }
    ) keys;
  };
}

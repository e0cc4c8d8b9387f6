# What Colmena's modules do about keys on the host: exactly one source for each, the right owner at activation, and a
# unit that is active while the file is there. The scripts do what Colmena's do in the words of bosco's own module, so
# that a test can compare the whole system.
{ name, config, pkgs, lib, ... }:
let
  keys = config.deployment.keys;
  early = lib.filter (k: k.uploadAt == "pre-activation") (lib.attrValues keys);
in {
  assertions = lib.mapAttrsToList (key: k: {
    assertion = lib.count (x: x != null) [ k.text k.keyCommand k.keyFile ] == 1;
    message = let p = "${name}.deployment.keys.${key}"; in "Exactly one of `${p}.text`, `${p}.keyCommand` and `${p}.keyFile` must be set.";
  }) keys;

  system.activationScripts.colmena-chown-keys = lib.mkIf (early != [ ]) (lib.stringAfter [ "groups" ] ''
    unowned=
    ${lib.concatMapStrings (k: ''
      if [ ! -f "${k.path}" ]; then
        echo "the key ${k.path} is not there, so nobody owns it" >&2
      elif ! chown ${k.user}:${k.group} "${k.path}"; then
        unowned=1
      fi
    '') early}
    # The last command's failure is what the activation reports.
    [ -z "$unowned" ]
  '');

  systemd.paths = lib.mapAttrs' (key: k: lib.nameValuePair "${key}-key" {
    wantedBy = [ "paths.target" ];
    pathConfig.PathExists = k.path;
  }) keys;
  systemd.services = lib.mapAttrs' (key: k: lib.nameValuePair "${key}-key" {
    serviceConfig = { TimeoutStartSec = "infinity"; Restart = "always"; RestartSec = "100ms"; };
    path = [ pkgs.inotify-tools ];
    preStart = ''
      until [ -e "${k.path}" ]; do sleep 0.5; done
    '';
    script = ''
      while [ -e "${k.path}" ]; do
        inotifywait -qq -t 3600 -e attrib -e delete_self -e move_self "${k.path}" || sleep 0.5
      done
    '';
  }) keys;
}

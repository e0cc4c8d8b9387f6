# What Colmena's modules do about keys on the host: exactly one source for each, the right owner at activation, and a
# unit that is active while the file is there.
{ name, config, lib, ... }:
let keys = config.deployment.keys;
in {
  assertions = lib.mapAttrsToList (key: k: {
    assertion = lib.count (x: x != null) [ k.text k.keyCommand k.keyFile ] == 1;
    message = let p = "${name}.deployment.keys.${key}"; in "Exactly one of `${p}.text`, `${p}.keyCommand` and `${p}.keyFile` must be set.";
  }) keys;

  system.activationScripts.colmena-chown-keys = lib.mkIf (lib.any (k: k.uploadAt == "pre-activation") (lib.attrValues keys)) (
    lib.stringAfter [ "groups" ] (lib.concatStrings (lib.mapAttrsToList (_: k: lib.optionalString (k.uploadAt == "pre-activation") ''
      if [ -f "${k.path}" ]; then chown ${k.user}:${k.group} "${k.path}"
      else echo "Key ${k.path} does not exist. Skipping chown." >&2; fi
    '') keys)));

  systemd.paths = lib.mapAttrs' (key: k: lib.nameValuePair "${key}-key" {
    wantedBy = [ "paths.target" ];
    pathConfig.PathExists = k.path;
  }) keys;
  systemd.services = lib.mapAttrs' (key: k: lib.nameValuePair "${key}-key" {
    serviceConfig = { TimeoutStartSec = "infinity"; Restart = "always"; RestartSec = "100ms"; };
    preStart = ''while [ ! -e "${k.path}" ]; do sleep 0.1; done'';
    script = ''while [ -e "${k.path}" ]; do sleep 0.1; done'';
  }) keys;
}

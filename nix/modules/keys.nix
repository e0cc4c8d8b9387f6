# What `deployment.keys` mean on the host where the fleet does not use Colmena, which has units of its own for them.
{ config, lib, ... }:
let
  inherit (config.deployment) keys;
in
{
  _file = "bosco/nix/modules/keys.nix";
  key = "bosco/nix/modules/keys.nix";

  config = {
    services.bosco.secrets = {
      keys = builtins.attrNames keys;
      units = lib.mapAttrs (name: _: name) keys;
    };

    # Nothing else may look at a key's `text`, `keyFile` or `keyCommand` here: they would end up in the host's store.
    assertions = lib.mapAttrsToList (
      name: key:
      let
        option = "deployment.keys.${name}";
        given = builtins.filter (source: source != null) [
          key.text
          key.keyFile
          key.keyCommand
        ];
      in
      {
        assertion = builtins.length given == 1;
        message = "Exactly one of `${option}.text`, `${option}.keyFile` and `${option}.keyCommand` must be set.";
      }
    ) keys;
  };
}

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
    assertions =
      let
        isWrong =
          name:
          let
            key = keys.${name};
          in
          lib.count (source: source != null) [
            key.text
            key.keyFile
            key.keyCommand
          ] != 1;
      in
      map (name: {
        assertion = false;
        message = "Exactly one of `text`, `keyFile` and `keyCommand` of `deployment.keys.${name}` must be set.";
      }) (builtins.filter isWrong (builtins.attrNames keys));
  };
}

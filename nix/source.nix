# What a source declares, the same whichever form it comes in. Nothing is forced before it is asked for.
#
# `kind` is "flake" or "hive", `value` the flake's outputs or what is in the file. In a flake `colmenaHive` wins over
# `colmena`, which it is mostly made of, that over deploy-rs's `deploy`, and that over `nixosConfigurations`: who has several
# has in the first what the others do not say of how to deploy.
{
  kind,
  hive,
  deploy,
}:
value:
let
  ofHive = form: hive: {
    inherit form;
    inherit (hive) nodes;
    scope = hive.introspect (scope: scope);
    allowApplyAll = hive.metaConfig.allowApplyAll or true;
    machinesFile = hive.metaConfig.machinesFile or null;
  };
in
if kind == "hive" then
  ofHive "hive.nix" (hive { pure = false; } value)
else if value ? colmenaHive then
  ofHive "colmenaHive" value.colmenaHive // { schema = value.colmenaHive.__schema or null; }
else if value ? colmena then
  ofHive "colmena" (hive { pure = true; } value.colmena)
else if value ? deploy.nodes || value ? nixosConfigurations then
  let
    configurations = value.nixosConfigurations or { };
  in
  {
    form = if value ? deploy.nodes then "deploy" else "nixosConfigurations";
    nodes = if value ? deploy.nodes then deploy value.deploy configurations else configurations;
    # Each system may come from another nixpkgs; the first stands for all.
    scope =
      let
        first = builtins.head (
          builtins.attrValues configurations
          ++ [ (throw "the fleet declares no `nixosConfigurations`, so it has no `pkgs` and `lib`") ]
        );
      in
      {
        nodes = configurations;
        inherit (first) pkgs lib;
      };
    allowApplyAll = true;
    machinesFile = null;
  }
else
  {
    form = null;
    outputs = builtins.attrNames value;
    scope = throw "the flake declares no hosts: it has none of `colmenaHive`, `colmena`, `deploy` and `nixosConfigurations`";
  }

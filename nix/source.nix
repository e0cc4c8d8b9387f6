# What a source declares, the same whichever form it comes in. Nothing is forced before it is asked for.
#
# `kind` is "flake", "hive" or "tree", `value` the flake's outputs, what is in the file, or the hosts' directories. In a
# flake `colmenaHive` wins over `colmena`, which it is mostly made of, that over deploy-rs's `deploy`, and that over
# `nixosConfigurations`: who has several has in the first what the others do not say of how to deploy.
{
  kind,
  hive,
  tree,
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
  # Each system may come from another nixpkgs; the first stands for all.
  ofSystems = form: nodes: {
    inherit form nodes;
    scope =
      let
        first = builtins.head (
          builtins.attrValues nodes ++ [ (throw "the fleet declares no hosts, so it has no `pkgs` and `lib`") ]
        );
      in
      {
        inherit nodes;
        inherit (first) pkgs lib;
      };
    allowApplyAll = true;
    machinesFile = null;
  };
in
if kind == "hive" then
  ofHive "hive.nix" (hive { pure = false; } value)
else if kind == "tree" then
  ofSystems "tree" (builtins.mapAttrs tree value)
else if value ? colmenaHive then
  ofHive "colmenaHive" value.colmenaHive // { schema = value.colmenaHive.__schema or null; }
else if value ? colmena then
  ofHive "colmena" (hive { pure = true; } value.colmena)
else if value ? deploy.nodes then
  let
    configurations = value.nixosConfigurations or { };
  in
  ofSystems "deploy" configurations // { nodes = deploy value.deploy configurations; }
else if value ? nixosConfigurations then
  ofSystems "nixosConfigurations" value.nixosConfigurations
else
  {
    form = null;
    outputs = builtins.attrNames value;
    scope = throw "the flake declares no hosts: it has none of `colmenaHive`, `colmena`, `deploy` and `nixosConfigurations`";
  }

# Which hosts a flake declares, and in which form. Applied to the flake's outputs; forces no host.
#
# `colmenaHive` is what Colmena's own `makeHive` makes of a hive, and wins over `nixosConfigurations`: who has both has
# the deployment options in the hive.
outputs:
if outputs ? colmenaHive then
  let
    hive = outputs.colmenaHive;
  in
  {
    form = "colmenaHive";
    schema = hive.__schema or null;
    hosts = builtins.attrNames hive.nodes;
    allowApplyAll = hive.metaConfig.allowApplyAll or true;
  }
else if outputs ? nixosConfigurations then
  {
    form = "nixosConfigurations";
    hosts = builtins.attrNames outputs.nixosConfigurations;
    allowApplyAll = true;
  }
else
  {
    form = null;
    outputs = builtins.attrNames outputs;
  }

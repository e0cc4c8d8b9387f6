# One host of a source: how to deploy it and what it should run, in one evaluation.
#
# `condition` is what a selector still has to ask of the host's tags (null: nothing). Where it does not hold, the
# toplevel is not evaluated. Without `system` it never is.
{
  host,
  condition,
  system,
}:
source:
let
  node = source.nodes.${host};
  # Not declared in a plain configuration.
  deployment = node.config.deployment or { };
  tags = deployment.tags or [ ];
  toplevel = node.config.system.build.toplevel;

  metadata = {
    name = host;
    inherit tags;
    # What a hive can ask for and bosco does not do: said, rather than passed over.
    ignored =
      (if deployment.keys or { } != { } then [ "deployment.keys" ] else [ ])
      ++ (if deployment.buildOnTarget or false then [ "deployment.buildOnTarget" ] else [ ])
      ++ (if deployment.replaceUnknownProfiles or true then [ ] else [ "deployment.replaceUnknownProfiles" ]);
    system = node.pkgs.stdenv.hostPlatform.system or toplevel.system;
    target =
      let
        # Declared without a default and not set is as good as not declared.
        isSet = node.options.deployment.targetHost.isDefined or true;
        targetHost = if isSet then deployment.targetHost or host else host;
      in
      if targetHost == null then
        null
      else
        {
          host = targetHost;
          user = deployment.targetUser or "root";
          port = deployment.targetPort or null;
          sshOptions = deployment.sshOptions or [ ];
          privilege =
            deployment.privilegeEscalationCommand or [
              "sudo"
              "-H"
              "--"
            ];
        };
  };

  holds =
    condition:
    if condition ? tag then
      builtins.any (tag: builtins.match condition.tag tag != null) tags
    else if condition ? not then
      !holds condition.not
    else if condition ? all then
      builtins.all holds condition.all
    else
      builtins.any holds condition.any;
in
if condition != null && !holds condition then
  {
    selected = null;
    inherit tags;
  }
else if system then
  {
    selected = {
      host = metadata;
      derivation = toplevel.drvPath;
      toplevel = toplevel.outPath;
    };
  }
else
  { selected = metadata; }

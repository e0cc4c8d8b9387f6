# What is looked at of one host when the fleet is checked: whose keys it has, which secrets it asks for, and with `system`
# what makes its toplevel.
#
# The names below `sops` are those of sops-nix, and of the module that takes its place.
{ host, system }:
source:
let
  node = source.nodes.${host};
  deployment = node.config.deployment or { };
  secrets = node.config.sops.secrets or { };
  # A file is named, not copied.
  text = value: builtins.unsafeDiscardStringContext (toString value);
in
{
  tags = deployment.tags or [ ];
  publicKeys = deployment.publicKeys or [ ];
  secrets = map (
    name:
    let
      secret = secrets.${name};
    in
    {
      inherit name;
      file = text secret.sopsFile;
      key = secret.key or name;
      format = secret.format or "yaml";
    }
  ) (builtins.attrNames secrets);
  keys = builtins.attrNames (deployment.keys or { });
  # Those whose text is in the configuration: where else it went is looked for.
  texts = builtins.filter (value: value != "") (
    map (key: text (if key.text or null == null then "" else key.text)) (
      builtins.attrValues (deployment.keys or { })
    )
  );
  derivation = if system then node.config.system.build.toplevel.drvPath else null;
}

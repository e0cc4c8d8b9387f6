# The options of `deployment`, with Colmena's types and defaults.
{ name, lib, ... }:
let
  option = type: default: description: lib.mkOption { inherit type default description; };
  key = { name, config, ... }: {
    options = with lib.types; {
      name = option str name "The file's name.";
      text = option (nullOr str) null "The contents.";
      keyFile = option (nullOr path) null "The local file with the contents." // { apply = v: if v == null then null else toString v; };
      keyCommand = option (nullOr (addCheck (listOf str) (l: l != [ ]))) null "The local command that prints the contents.";
      destDir = option path "/run/keys" "The folder on the host.";
      path = option path "${config.destDir}/${config.name}" "The whole path on the host." // { internal = true; };
      user = option str "root" "The file's owner.";
      group = option str "root" "The file's group.";
      permissions = option str "0600" "The file's mode.";
      uploadAt = option (enum [ "pre-activation" "post-activation" ]) "pre-activation" "When it is uploaded.";
    };
  };
in {
  options.deployment = with lib.types; {
    targetHost = option (nullOr str) name "The host to reach.";
    targetPort = option (nullOr ints.unsigned) null "The port to reach it on.";
    targetUser = option (nullOr str) "root" "The user to be there.";
    allowLocalDeployment = option bool false "Whether the host may deploy itself.";
    buildOnTarget = option bool false "Whether the host builds its own system.";
    tags = option (listOf str) [ ] "What the host is called by, among others.";
    keys = option (attrsOf (submodule key)) { } "Secrets.";
    replaceUnknownProfiles = option bool true "Whether a system that nobody here knows may be replaced.";
    privilegeEscalationCommand = option (listOf str) [ "sudo" "-H" "--" ] "What makes another user root.";
    sshOptions = option (listOf str) [ ] "More options of ssh.";
  };
}

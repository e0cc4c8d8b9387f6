# How a host gets its secrets: an activation script that opens what bosco has brought, at every switch and every boot. Beside
# bosco's service, its `sops` and its `deployment.keys`; a host that has none of these gets nothing from here.
#
# What is written here ends up in the toplevel, so it says which secrets there are and whose, and nothing of what is in them,
# not even encrypted: that goes to the host beside its toplevel, so that it can change without.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.bosco.secrets;
  helper = "/nix/var/nix/gcroots/bosco/helper/bin/bosco";

  internal =
    type: default: description:
    mkOption {
      inherit type default description;
      internal = true;
    };
  # What is said in one place only needs no merging, which for a hundred secrets takes longer than all that is done with them.
  one = internal types.raw;

  forUsers = builtins.any (secret: secret.neededForUsers) cfg.declared;
  install = flags: ''
    if [ -x ${helper} ]; then
      ${helper} helper secrets install ${flags}"$systemConfig"
    else
      echo "bosco: no helper is on this host yet, so it has no secrets; the first \`bosco apply\` to it brings both" >&2
    fi
  '';

  units = pkgs.runCommand "bosco-secrets-units" {
    secrets = lib.concatStrings (lib.mapAttrsToList (unit: secret: "${unit}\n${secret}\n") cfg.units);
    passAsFile = [ "secrets" ];
  } ''
    mkdir -p $out/lib/systemd/system
    while IFS= read -r unit && IFS= read -r secret; do
      printf '%s\n' > "$out/lib/systemd/system/$unit-key.service" \
        '[Unit]' "Description=bosco: the secret ''${secret//%/%%} is there" \
        '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' \
        "ExecStart=${helper} helper secrets present \"''${secret//%/%%}\""
    done < "$secretsPath"
  '';
in
{
  _file = "bosco/nix/modules/secrets.nix";
  key = "bosco/nix/modules/secrets.nix";

  options.services.bosco.secrets = {
    installed =
      internal types.bool (config.services.bosco.enable or false || cfg.declared != [ ] || cfg.units != { })
        "Whether the host installs its secrets by itself.";
    declared = one [ ] "The secrets of sops files, as the host reads them.";
    templates = one [ ] "The templates, as the host reads them.";
    age = one { sshKeyPaths = [ "/etc/ssh/ssh_host_ed25519_key" ]; } "What opens them on the host.";
    files = one { } "The sops file of each secret, which bosco reads.";
    keys = one [ ] "The `deployment.keys` that have a unit.";
    units = internal (types.attrsOf types.str) { } "The secrets that have a unit, by the unit's name.";
  };

  config = lib.mkIf cfg.installed {
    environment.etc."bosco/secrets.json".text = builtins.toJSON {
      version = 1;
      inherit (cfg) templates age keys;
      secrets = cfg.declared;
    };

    system.activationScripts = {
      boscoSecrets = lib.stringAfter [
        "specialfs"
        "users"
        "groups"
      ] (install "");
    }
    // lib.optionalAttrs forUsers {
      boscoSecretsForUsers = lib.stringAfter [ "specialfs" ] (install "--for-users ");
      users.deps = [ "boscoSecretsForUsers" ];
    };

    # One is active while its secret is there, for services to order themselves after it, or to need it. All of them are one
    # derivation: a hundred by themselves would cost an evaluation more than everything else of a hundred secrets.
    systemd = lib.mkIf (cfg.units != { }) {
      packages = [ units ];
      targets.multi-user.wants = map (unit: "${unit}-key.service") (builtins.attrNames cfg.units);
    };
  };
}

# How a host gets its secrets: an activation script that opens what bosco has brought, at every switch and every boot. Beside
# bosco's service, its `sops` and its `deployment.keys`; a host that has none of these gets nothing from here.
#
# What is written here ends up in the toplevel, so it says which secrets there are and whose, and nothing of what is in them,
# not even encrypted: that goes to the host beside its toplevel, so that it can change without.
{ config, lib, ... }:
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
  anything = types.attrsOf types.unspecified;

  forUsers = builtins.any (secret: secret.neededForUsers) cfg.declared;
  install = flags: ''
    if [ -x ${helper} ]; then
      ${helper} helper secrets install ${flags}"$systemConfig"
    else
      echo "bosco: no helper is on this host yet, so it has no secrets; the first \`bosco apply\` to it brings both" >&2
    fi
  '';
in
{
  _file = "bosco/nix/modules/secrets.nix";
  key = "bosco/nix/modules/secrets.nix";

  options.services.bosco.secrets = {
    installed =
      internal types.bool (config.services.bosco.enable or false || cfg.declared != [ ] || cfg.units != { })
        "Whether the host installs its secrets by itself.";
    declared = internal (types.listOf anything) [ ] "The secrets of sops files, as the host reads them.";
    templates = internal (types.listOf anything) [ ] "The templates, as the host reads them.";
    age =
      internal anything { sshKeyPaths = [ "/etc/ssh/ssh_host_ed25519_key" ]; }
        "What opens them on the host.";
    files = internal (types.attrsOf anything) { } "The sops file of each secret, which bosco reads.";
    keys = internal (types.listOf types.str) [ ] "The `deployment.keys` that have a unit.";
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

    # Active while the secret is there, for services to order themselves after it, or to need it.
    systemd.services = lib.mapAttrs' (
      unit: secret:
      lib.nameValuePair "${unit}-key" {
        description = "bosco: the secret ${secret} is there";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${helper} helper secrets present \"${lib.replaceStrings [ "%" ] [ "%%" ] secret}\"";
        };
      }
    ) cfg.units;
  };
}

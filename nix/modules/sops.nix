# `sops` as sops-nix has it, by bosco: to be imported in its place. The files in git stay as they are, and so do these options.
#
# What is encrypted never is part of the toplevel: bosco reads the files and brings them to the host beside it.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.sops;

  units =
    what:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "nginx.service" ];
      description = "Units that are ${what} when it changes.";
    };
  # An owner can be given by name or by number.
  account =
    config: name: number:
    if config.${name} != null then config.${name} else toString config.${number};
  groupOf = owner: config.users.users.${owner}.group or "root";
  formats = [
    "yaml"
    "json"
    "dotenv"
    "ini"
    "binary"
  ];

  # What secrets and templates share.
  placed =
    path:
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          description = "The name of the file.";
        };
        path = mkOption {
          type = types.str;
          default = path config;
          defaultText = "below /run/secrets";
          description = "Where it is found. Elsewhere than below /run/secrets it is a link there.";
        };
        mode = mkOption {
          type = types.str;
          default = "0400";
          description = "Who may read it, in octal digits.";
        };
        owner = mkOption {
          type = types.nullOr types.str;
          default = "root";
          description = "Who owns it. null: whoever has the number `uid`.";
        };
        uid = mkOption {
          type = types.int;
          default = 0;
          description = "The owner's number, where `owner` is null.";
        };
        group = mkOption {
          type = types.nullOr types.str;
          default = if config.owner != null then groupOf config.owner else null;
          defaultText = "the owner's";
          description = "Its group. null: the one with the number `gid`.";
        };
        gid = mkOption {
          type = types.int;
          default = 0;
          description = "The group's number, where `group` is null.";
        };
        restartUnits = units "restarted";
        reloadUnits = units "reloaded";
      };
    };

  secret =
    { config, ... }:
    {
      options = {
        sopsFile = mkOption {
          type = types.path;
          default = cfg.defaultSopsFile;
          defaultText = "config.sops.defaultSopsFile";
          description = "The sops file that it is in.";
        };
        sopsFileHash = mkOption {
          type = types.str;
          readOnly = true;
          default = builtins.hashFile "sha256" config.sopsFile;
          defaultText = "its SHA-256";
          description = "What changes with the file: for `restartTriggers` and the like. It makes the toplevel change too.";
        };
        format = mkOption {
          type = types.enum formats;
          default = cfg.defaultSopsFormat;
          defaultText = "config.sops.defaultSopsFormat";
          description = "The form of the file before it was encrypted.";
        };
        key = mkOption {
          type = types.str;
          default = if cfg.defaultSopsKey != null then cfg.defaultSopsKey else config.name;
          defaultText = "its name";
          description = "Where it is in the file: `a/b` is `b` in `a`. Nothing at all is the whole file.";
        };
        neededForUsers = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether it is there before users are made, in /run/secrets-for-users: for `hashedPasswordFile`. It is root's then.
          '';
        };
      };
    };
  folder = config: if config.neededForUsers then "/run/secrets-for-users" else "/run/secrets";

  template =
    { config, options, ... }:
    {
      options = {
        content = mkOption {
          type = types.lines;
          default = "";
          description = "What is in it, with `config.sops.placeholder.NAME` where the secret of that name is to stand.";
        };
        file = mkOption {
          type = types.nullOr types.path;
          default = null;
          description = "A file that has the content.";
        };
      };
      config.content = lib.mkIf (config.file != null) (builtins.readFile config.file);
    };

  written = config: {
    inherit (config)
      name
      path
      mode
      restartUnits
      reloadUnits
      ;
    owner = account config "owner" "uid";
    group = account config "group" "gid";
  };
  unitName = builtins.replaceStrings [ "/" ] [ "-" ];
in
{
  _file = "bosco/nix/modules/sops.nix";
  key = "bosco/nix/modules/sops.nix";

  options.sops = {
    defaultSopsFile = mkOption {
      type = types.path;
      description = "The file of all secrets that name none.";
    };
    defaultSopsFormat = mkOption {
      type = types.enum formats;
      default = "yaml";
      description = "The form of all files that name none.";
    };
    defaultSopsKey = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Where in its file a secret is that does not say; null: at its name.";
    };
    validateSopsFiles = mkOption {
      type = types.bool;
      default = true;
      description = "Taken: bosco reads every file before it touches the host.";
    };
    secrets = mkOption {
      type = types.attrsOf (
        types.submodule [
          (placed (config: "${folder config}/${config.name}"))
          secret
        ]
      );
      default = { };
      description = "The secrets of the host.";
    };
    templates = mkOption {
      type = types.attrsOf (
        types.submodule [
          (placed (config: "/run/secrets/rendered/${config.name}"))
          template
        ]
      );
      default = { };
      description = "Files that have secrets in them.";
    };
    placeholder = mkOption {
      type = types.attrsOf types.str;
      default = lib.mapAttrs (
        _: secret: "<SOPS:${builtins.hashString "sha256" secret.name}:PLACEHOLDER>"
      ) cfg.secrets;
      defaultText = "one for each secret";
      description = "What stands for a secret in a template.";
    };
    age = {
      keyFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/var/lib/sops-nix/key.txt";
        description = "A file with age identities on the host.";
      };
      generateKey = mkOption {
        type = types.bool;
        default = false;
        description = "Whether `keyFile` is made where it is not there.";
      };
      sshKeyPaths = mkOption {
        type = types.listOf types.str;
        default = map (key: key.path) (
          builtins.filter (key: key.type == "ed25519") (config.services.openssh.hostKeys or [ ])
        );
        defaultText = "the host's SSH keys of kind ed25519";
        description = "SSH keys of kind ed25519 on the host that open secrets.";
      };
    };
  };

  config = {
    services.bosco.secrets = lib.mkIf (cfg.secrets != { }) {
      declared = lib.mapAttrsToList (
        _: secret: written secret // { inherit (secret) key format neededForUsers; }
      ) cfg.secrets;
      templates = lib.mapAttrsToList (
        _: template: written template // { inherit (template) content; }
      ) cfg.templates;
      age = {
        inherit (cfg.age) keyFile generateKey;
        sshKeyPaths =
          if cfg.age.sshKeyPaths != [ ] || cfg.age.keyFile != null then
            cfg.age.sshKeyPaths
          else
            [ "/etc/ssh/ssh_host_ed25519_key" ];
      };
      files = lib.mapAttrs' (
        _: secret: lib.nameValuePair secret.name { inherit (secret) sopsFile format; }
      ) cfg.secrets;
      units = lib.mapAttrs' (
        _: secret: lib.nameValuePair (unitName secret.name) secret.name
      ) cfg.secrets;
    };

    assertions =
      let
        all = builtins.attrValues cfg.secrets;
        isRoots = secret: builtins.elem (account secret "owner" "uid") [ "root" "0" ];
        isRootsGroup = secret: builtins.elem (account secret "group" "gid") [ "root" "0" ];
        named = wrong: lib.concatMapStringsSep ", " (secret: "`${secret.name}`") wrong;
        tooEarly = builtins.filter (
          secret: secret.neededForUsers && !(isRoots secret && isRootsGroup secret)
        ) all;
        # Users that a service makes are not there yet when secrets are opened.
        late = config.systemd.sysusers.enable or false || config.services.userborn.enable or false;
        tooLate = builtins.filter (
          secret: late && !(isRoots secret && isRootsGroup secret)
        ) (all ++ builtins.attrValues cfg.templates);
        units = lib.groupBy (secret: unitName secret.name) all;
        clashing = builtins.concatLists (
          builtins.filter (same: builtins.length same > 1) (builtins.attrValues units)
        );
        names = lib.genAttrs (map (secret: secret.name) all) (_: true);
        folders =
          name:
          let
            parts = lib.splitString "/" name;
          in
          map (length: lib.concatStringsSep "/" (lib.take length parts)) (
            lib.range 1 (builtins.length parts - 1)
          );
        within = builtins.filter (
          secret: builtins.any (folder: names ? ${folder}) (folders secret.name)
        ) all;
      in
      [
        {
          assertion = tooEarly == [ ];
          message = "${named tooEarly} of `sops.secrets`: what is needed for users is there before there are any, so it can only be root's, and of its group.";
        }
        {
          assertion = tooLate == [ ];
          message = "${named tooLate} of `sops`: where `systemd.sysusers` or `services.userborn` make the users, secrets are there before them, and can only be root's, and of its group.";
        }
        {
          assertion = clashing == [ ];
          message = "${named clashing} of `sops.secrets` would have the same unit.";
        }
        {
          assertion = within == [ ];
          message = "${named within} of `sops.secrets` would lie within another secret, which is a file.";
        }
        {
          assertion = cfg.age.generateKey -> cfg.age.keyFile != null;
          message = "`sops.age.generateKey` makes `sops.age.keyFile`, which is not set.";
        }
        {
          assertion = cfg.templates != { } -> cfg.secrets != { };
          message = "`sops.templates` are made of `sops.secrets`, of which there are none.";
        }
      ];
  };
}

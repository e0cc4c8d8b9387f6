# Users and groups. Those of the base system stay; those that are declared are made, changed and, when no longer
# declared, taken away.
{ config, pkgs, lib, ... }:
let
  cfg = config.users;
  nullOrStr = lib.types.nullOr lib.types.str;
  userOptions = { name, config, ... }: {
    options = {
      enable = lib.mkOption { type = lib.types.bool; default = true; description = "Whether the user is made."; };
      name = lib.mkOption { type = lib.types.passwdEntry lib.types.str; default = name; description = "The user's name."; };
      description = lib.mkOption { type = lib.types.passwdEntry lib.types.str; default = ""; description = "The user's full name."; };
      uid = lib.mkOption { type = lib.types.nullOr lib.types.int; default = null; description = "The user's number."; };
      isNormalUser = lib.mkOption { type = lib.types.bool; default = false; description = "Whether this is a person."; };
      isSystemUser = lib.mkOption { type = lib.types.bool; default = false; description = "Whether this is a service."; };
      group = lib.mkOption { type = lib.types.str; default = ""; description = "The primary group."; };
      extraGroups = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "More groups."; };
      home = lib.mkOption { type = lib.types.passwdEntry lib.types.path; default = "/var/empty"; description = "The home directory."; };
      homeMode = lib.mkOption { type = lib.types.strMatching "[0-7]{1,5}"; default = "700"; description = "The mode of the home directory."; };
      createHome = lib.mkOption { type = lib.types.bool; default = false; description = "Whether the home directory is made."; };
      shell = lib.mkOption {
        type = lib.types.nullOr (lib.types.either lib.types.shellPackage (lib.types.passwdEntry lib.types.path));
        default = "/usr/sbin/nologin";
        description = "The login shell.";
      };
      useDefaultShell = lib.mkOption { type = lib.types.bool; default = false; description = "Whether the shell is the default one."; };
      packages = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "The user's own packages."; };
      linger = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = null; description = "Whether the user's units run without a session."; };
      password = lib.mkOption { type = nullOrStr; default = null; description = "The password."; };
      initialPassword = lib.mkOption { type = nullOrStr; default = null; description = "The first password."; };
      hashedPassword = lib.mkOption { type = nullOrStr; default = null; description = "The password's hash."; };
      initialHashedPassword = lib.mkOption { type = nullOrStr; default = null; description = "The first password's hash."; };
      hashedPasswordFile = lib.mkOption { type = nullOrStr; default = null; description = "The file with the password's hash."; };
      openssh.authorizedKeys = {
        keys = lib.mkOption { type = lib.types.listOf lib.types.singleLineStr; default = [ ]; description = "The keys that open the account."; };
        keyFiles = lib.mkOption { type = lib.types.listOf lib.types.path; default = [ ]; description = "Files with such keys."; };
      };
    };
    config = lib.mkMerge [
      (lib.mkIf config.isNormalUser {
        group = lib.mkDefault "users";
        createHome = lib.mkDefault true;
        home = lib.mkDefault "/home/${config.name}";
        useDefaultShell = lib.mkDefault true;
      })
      (lib.mkIf config.useDefaultShell { shell = lib.mkDefault cfg.defaultUserShell; })
    ];
  };
  groupOptions = { name, ... }: {
    options = {
      name = lib.mkOption { type = lib.types.passwdEntry lib.types.str; default = name; description = "The group's name."; };
      gid = lib.mkOption { type = lib.types.nullOr lib.types.int; default = null; description = "The group's number."; };
      members = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Its members."; };
    };
  };
  users = lib.filter (u: u.enable) (lib.attrValues cfg.users);
  shellOf = u: if u.shell == null then "/usr/sbin/nologin" else if u.shell ? shellPath then "${u.shell}${u.shell.shellPath}" else toString u.shell;
  hashOf = u: if u.hashedPassword != null then u.hashedPassword else if u.initialHashedPassword != null then u.initialHashedPassword else "";
  plainOf = u: if u.password != null then u.password else if u.initialPassword != null then u.initialPassword else "";
  number = n: if n == null then "" else toString n;
  membersOf = g: lib.unique (g.members ++ lib.concatMap (u: lib.optional (lib.elem g.name u.extraGroups) u.name) users);
  # One line for each, with fields that cannot hold a colon or a newline.
  spec = pkgs.writeText "users-groups" (
    lib.concatMapStrings (g: "group:${g.name}:${number g.gid}:${lib.concatStringsSep "," (membersOf g)}\n") (lib.attrValues cfg.groups)
    + lib.concatMapStrings (u: "user:${u.name}:${number u.uid}:${u.group}:${u.home}:${shellOf u}:${if u.createHome then u.homeMode else ""}:${u.description}:${if u.isNormalUser then "normal" else "system"}:${hashOf u}:${plainOf u}:${lib.concatStringsSep "," u.extraGroups}\n") users);
  keyText = u: lib.concatLines (u.openssh.authorizedKeys.keys ++ map (f: lib.removeSuffix "\n" (builtins.readFile f)) u.openssh.authorizedKeys.keyFiles);
  hasKeys = u: u.openssh.authorizedKeys.keys != [ ] || u.openssh.authorizedKeys.keyFiles != [ ];
in {
  options.users = {
    users = lib.mkOption { type = lib.types.attrsOf (lib.types.submodule userOptions); default = { }; description = "The users."; };
    groups = lib.mkOption { type = lib.types.attrsOf (lib.types.submodule groupOptions); default = { }; description = "The groups."; };
    mutableUsers = lib.mkOption { type = lib.types.bool; default = true; description = "Whether passwords that were changed on the machine stay."; };
    defaultUserShell = lib.mkOption { type = lib.types.either lib.types.path lib.types.shellPackage; default = pkgs.bashInteractive; description = "The shell of people."; };
    allowNoPasswordLogin = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    motd = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The message of the day."; };
  };

  config = {
    users.users.root = { uid = 0; group = "root"; home = "/root"; shell = lib.mkDefault "/bin/bash"; description = "System administrator"; };
    users.groups = { root.gid = 0; users.gid = 100; wheel = { }; keys.gid = 96; };
    assertions = lib.concatMap (u: [
      {
        assertion = u.name == "root" || (u.isNormalUser != u.isSystemUser) || (u.uid != null && u.uid < 1000 && !u.isNormalUser);
        message = "Exactly one of users.users.${u.name}.isSystemUser and users.users.${u.name}.isNormalUser must be set.\n";
      }
      {
        assertion = u.group != "";
        message = "users.users.${u.name}.group is unset. This used to default to\nnogroup, but this is unsafe. For example you can create a group\nfor this user with:\nusers.users.${u.name}.group = \"${u.name}\";\nusers.groups.${u.name} = {};\n";
      }
    ]) users;
    environment.etc = lib.listToAttrs (map (u: lib.nameValuePair "ssh/authorized_keys.d/${u.name}" { mode = "0444"; text = keyText u; }) (lib.filter hasKeys users))
      // lib.optionalAttrs (config.users.motd != null) { motd.text = config.users.motd; };
    system.activationScripts.users = {
      supportsDryActivation = true;
      text = ''
        ${pkgs.bash}/bin/bash ${../../../activation/update-users.sh} ${spec} ${if cfg.mutableUsers then "mutable" else "fixed"}
      '';
    };
    system.activationScripts.groups = lib.stringAfter [ "users" ] "";
  };
}

# The SSH server: the base system's sshd, with a configuration of ours.
{ config, pkgs, lib, ... }:
let
  cfg = config.services.openssh;
  value = v: if builtins.isBool v then lib.boolToYesNo v else toString v;
  listed = [ "AllowUsers" "AllowGroups" "DenyUsers" "DenyGroups" "AuthorizedKeysFile" ];
  line = k: v: if v == null then "" else if builtins.isList v then "${k} ${lib.concatStringsSep (if lib.elem k listed then " " else ",") v}\n" else "${k} ${value v}\n";
in {
  imports = [
    (lib.mkRenamedOptionModule [ "services" "sshd" "enable" ] [ "services" "openssh" "enable" ])
    (lib.mkRenamedOptionModule [ "services" "openssh" "permitRootLogin" ] [ "services" "openssh" "settings" "PermitRootLogin" ])
    (lib.mkRenamedOptionModule [ "services" "openssh" "passwordAuthentication" ] [ "services" "openssh" "settings" "PasswordAuthentication" ])
  ];
  options.services.openssh = {
    enable = lib.mkOption { type = lib.types.bool; default = false; description = "Whether to enable the OpenSSH secure shell daemon, which allows secure remote logins."; };
    package = lib.mkOption { type = lib.types.package; default = pkgs.openssh; description = "The server's package."; };
    ports = lib.mkOption { type = lib.types.listOf lib.types.port; default = [ 22 ]; description = "The ports it listens on."; };
    openFirewall = lib.mkOption { type = lib.types.bool; default = true; description = "Whether the firewall lets them in."; };
    startWhenNeeded = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    listenAddresses = lib.mkOption { type = lib.types.listOf lib.types.attrs; default = [ ]; description = "The addresses it listens on."; };
    authorizedKeysFiles = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Where keys are looked for."; };
    authorizedKeysInHomedir = lib.mkOption { type = lib.types.bool; default = true; description = "Whether keys in home directories count."; };
    hostKeys = lib.mkOption {
      type = lib.types.listOf lib.types.attrs;
      default = [ { type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; } ];
      description = "The host's keys, made where they are missing.";
    };
    extraConfig = lib.mkOption { type = lib.types.lines; default = ""; description = "More lines of sshd_config."; };
    settings = lib.mkOption {
      default = { };
      description = "The lines of sshd_config.";
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf (lib.types.nullOr (lib.types.oneOf [ lib.types.bool lib.types.int lib.types.str (lib.types.listOf lib.types.str) ]));
        options = {
          PermitRootLogin = lib.mkOption { type = lib.types.nullOr (lib.types.enum [ "yes" "without-password" "prohibit-password" "forced-commands-only" "no" ]); default = "prohibit-password"; description = "Whether root may log in."; };
          PasswordAuthentication = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = true; description = "Whether passwords count."; };
          KbdInteractiveAuthentication = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = true; description = "Whether PAM may ask."; };
          UsePAM = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = true; description = "Whether PAM is asked."; };
          UseDns = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = false; description = "Whether names are looked up."; };
          X11Forwarding = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = false; description = "Whether X11 is forwarded."; };
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    networking.firewall.allowedTCPPorts = lib.optionals cfg.openFirewall cfg.ports;
    services.openssh.authorizedKeysFiles = lib.optional cfg.authorizedKeysInHomedir "%h/.ssh/authorized_keys" ++ [ "/etc/ssh/authorized_keys.d/%u" ];
    environment.etc."ssh/sshd_config".text = lib.concatStrings (
      map (p: "Port ${toString p}\n") cfg.ports
      ++ map (l: "ListenAddress ${l.addr}${lib.optionalString (l.port or null != null) ":${toString l.port}"}\n") cfg.listenAddresses
      ++ [ "AuthorizedKeysFile ${toString cfg.authorizedKeysFiles}\n" ]
      ++ map (k: "HostKey ${k.path}\n") cfg.hostKeys
      # Where NixOS' own server looks for programs, before the base system's.
      ++ [ "SetEnv PATH=/run/wrappers/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" ]
      ++ [ "Subsystem sftp internal-sftp\n" ]
      ++ lib.mapAttrsToList line cfg.settings
      ++ [ cfg.extraConfig ]);
    systemd.services.sshd = {
      description = "SSH Daemon";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      stopIfChanged = false;
      restartTriggers = [ config.environment.etc."ssh/sshd_config".source ];
      preStart = ''
        umask 077
        ${lib.concatMapStrings (k: ''
          if ! [ -s "${k.path}" ]; then
            mkdir -p "$(dirname "${k.path}")"
            rm -f "${k.path}"
            /usr/bin/ssh-keygen -q -t "${k.type}" -f "${k.path}" -N ""
          fi
        '') cfg.hostKeys}
      '';
      serviceConfig = {
        Type = "notify";
        ExecStart = "/usr/sbin/sshd -D -f /etc/ssh/sshd_config";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        KillMode = "process";
        Restart = "always";
        RuntimeDirectory = "sshd";
        RuntimeDirectoryMode = "0755";
      };
    };
  };
}

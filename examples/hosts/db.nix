# Something that runs by itself, now and then.
{ pkgs, ... }:
{
  systemd.services.backup = {
    description = "Backup";
    startAt = "daily";
    serviceConfig.Type = "oneshot";
    script = ''
      ${pkgs.busybox}/bin/mkdir -p /var/backup
      ${pkgs.busybox}/bin/date > /var/backup/last
    '';
  };
}

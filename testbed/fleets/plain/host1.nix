{ pkgs, ... }:
{
  networking.hostName = "host1";
  systemd.services.worker = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = "${pkgs.busybox}/bin/sleep 1000000";
  };
}

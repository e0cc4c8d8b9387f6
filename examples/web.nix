# A web server with one page.
{ config, pkgs, ... }:
let
  site = pkgs.writeTextDir "index.html" "Hello from ${config.networking.hostName}!\n";
in
{
  networking.firewall.allowedTCPPorts = [ 80 ];

  systemd.services.site = {
    description = "The site";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "${pkgs.busybox}/bin/httpd -f -p 80 -h ${site}";
      DynamicUser = true;
      AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
    };
  };
}

# Where releases are published, and hosts fetch them. Everybody has to reach its port 2222.
{ program, ... }:
{
  services.bosco.hub = {
    enable = true;
    package = program;
    fleetFile = ../bosco.toml;
    openFirewall = true;
  };
}

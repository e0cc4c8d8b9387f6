# A machine without a terminal.
{ lib, ... }: {
  boot.kernelParams = [ "panic=1" "boot.panic_on_fail" ];
  systemd.enableEmergencyMode = lib.mkDefault false;
}

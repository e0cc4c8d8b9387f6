# A system that is well, and fails where a file on the host says so by its letter. It is a profile beside itself as well, by
# deploy-rs's contract.
{
  kind,
  letter,
  lib,
  pkgs,
  ...
}:
let
  says = file: "[ \"$(${pkgs.busybox}/bin/cat /root/${file} 2>/dev/null)\" != ${letter} ]";
in
{
  services.openssh.enable = true;
  services.bosco.enable = kind == "module";
  deployment.update = {
    confirmTimeout = 8;
    activationTimeout = 60;
  };
  # Few entries: each is synced by itself when the menu is written.
  boot.loader.systemd-boot.enable = true;
  boot.loader.systemd-boot.configurationLimit = 4;
  boot.kernelParams = [
    "group=${if builtins.elem letter [ "a" "b" "c" ] then "1" else "2"}"
  ];
  environment.etc.letter.text = letter;
  system.activationScripts.fails = says "script-fails";
  system.systemBuilderCommands = ''
    ln -s ${pkgs.writeShellScript "deploy-rs-activate" (says "profile-fails")} $out/deploy-rs-activate
  '';
  systemd.services.fails = {
    description = "Fails where it is told to (${letter})";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
    };
    script = says "unit-fails";
  };
  system.stateVersion = "26.05";
}

# The systems that emulated.rs puts on an emulated machine with a boot loader, by name: an old one, and its candidates.
{ nixpkgs ? ../., system ? "x86_64-linux", loader }:
let
  of = module: (import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit system;
    modules = [
      (nixpkgs + "/base-module.nix")
      { boot.loader = { systemd-boot.enable = loader == "systemd-boot"; grub.enable = loader == "grub"; timeout = 1; }; }
      module
    ];
  }).config.system.build.toplevel;

  # In the place of the toplevel's init, with a word on the console, which the kernel has opened for it.
  init = lines: ''
    rm $out/init
    printf '#!/bin/sh\n%s\n' ${nixpkgsLib.escapeShellArg lines} > $out/init
    chmod +x $out/init
  '';
  nixpkgsLib = import (nixpkgs + "/lib");
in {
  old = of { environment.etc.version.text = "old"; };
  good = of {
    environment.etc.version.text = "good";
    boot.kernelParams = [ "systemd.watchdog_sec=120" ];
  };
  panics = of {
    boot.kernelParams = [ "panic=5" ];
    system.systemBuilderCommands = init "echo this init ends\nexit 1";
  };
  hangs = of {
    boot.kernelParams = [ "systemd.watchdog_sec=15" ];
    system.systemBuilderCommands = init "echo this init hangs\nwhile :; do sleep 3600; done";
  };
}

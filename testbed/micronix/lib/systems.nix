# The systems that exist here. A parsed system has only the fields that configurations look at.
{ lib }:
let
  parse = system:
    let
      m = builtins.match "([^-]+)-([^-]+)" system;
      cpu = builtins.elemAt m 0;
      kernel = builtins.elemAt m 1;
    in {
      inherit system;
      config = "${cpu}-unknown-${kernel}-gnu";
      parsed = { cpu.name = cpu; kernel.name = kernel; };
      isLinux = kernel == "linux";
      isDarwin = kernel == "darwin";
      isx86_64 = cpu == "x86_64";
      isAarch64 = cpu == "aarch64";
      is64bit = true;
      isx86 = cpu == "x86_64" || cpu == "i686";
      linuxArch = if cpu == "aarch64" then "arm64" else cpu;
      linux-kernel.target = "bzImage";
      __toString = self: self.system;
    };
in rec {
  doubles = {
    all = linux ++ [ "x86_64-darwin" "aarch64-darwin" ];
    inherit linux;
    unix = doubles.all;
    darwin = [ "x86_64-darwin" "aarch64-darwin" ];
  };
  linux = [ "x86_64-linux" "aarch64-linux" "i686-linux" ];
  flakeExposed = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
  elaborate = args: if builtins.isString args then parse args else if args ? parsed then args else parse args.system // args;
  equals = a: b: a.system == b.system;
}

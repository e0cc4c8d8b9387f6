# The toplevel: one store path that is a whole system.
{ config, pkgs, lib, ... }:
let
  cfg = config.system;
  kernel = config.boot.kernelPackages.kernel;
  stage2 = ../../../boot/stage-2-init.sh;
  bootspec = {
    system = pkgs.stdenv.hostPlatform.system;
    kernel = "${kernel}/${cfg.boot.loader.kernelFile}";
    initrd = "${cfg.build.initialRamdisk}/${cfg.boot.loader.initrdFile}";
    kernelParams = config.boot.kernelParams;
    label = "${cfg.nixos.distroName} ${cfg.nixos.codeName} ${cfg.nixos.label} (Linux ${kernel.modDirVersion})";
    toplevel = "${placeholder "out"}";
    init = "${placeholder "out"}/init";
  };
  system = pkgs.stdenvNoCC.mkDerivation ({
    name = "nixos-system-${cfg.name}-${cfg.nixos.label}";
    passAsFile = [ "extraDependencies" "buildCommand" "bootspec" "activate" "dryActivate" ];
    activate = cfg.build.activationScript;
    dryActivate = cfg.build.dryActivationScript;
    inherit (cfg) extraDependencies;
    bootspec = builtins.toJSON bootspec;
    checks = cfg.checks;
    buildCommand = ''
      mkdir $out
      fill() { sed "s|@out@|$out|g" "$1" > "$out/$2"; chmod +x "$out/$2"; }
      fill $activatePath activate
      fill $dryActivatePath dry-activate
      fill ${stage2} init
      ln -s init $out/prepare-root
      ln -s ${cfg.build.etc}/etc $out/etc
      ln -s ${cfg.path} $out/sw
      ln -s ${config.systemd.package} $out/systemd
      ln -s ${kernel}/${cfg.boot.loader.kernelFile} $out/kernel
      ln -s ${cfg.modulesTree} $out/kernel-modules
      ln -s ${cfg.build.initialRamdisk}/${cfg.boot.loader.initrdFile} $out/initrd
      echo -n ${lib.escapeShellArg (toString config.boot.kernelParams)} > $out/kernel-params
      echo -n "systemd ${toString config.systemd.package.interfaceVersion}" > $out/init-interface-version
      echo -n ${lib.escapeShellArg cfg.nixos.label} > $out/nixos-version
      echo -n ${pkgs.stdenv.hostPlatform.system} > $out/system
      ${cfg.systemBuilderCommands}
      {
        printf '{"org.nixos.bootspec.v1":%s,"org.nixos.specialisation.v1":{' "$(cat $bootspecPath)"
        sep=
        for s in $out/specialisation/*; do
          [ -e "$s/boot.json" ] || continue
          printf '%s"%s":%s' "$sep" "''${s##*/}" "$(cat $s/boot.json)"
          sep=,
        done
        printf '}}\n'
      } > $out/boot.json
      cp $extraDependenciesPath $out/extra-dependencies
    '';
  } // cfg.systemBuilderArgs);
in {
  imports = [
    (lib.mkRenamedOptionModule [ "system" "extraSystemBuilderCmds" ] [ "system" "systemBuilderCommands" ])
  ];
  options.system = {
    build = lib.mkOption {
      default = { };
      description = "What can be built of a configuration.";
      type = lib.types.submoduleWith {
        shorthandOnlyDefinesConfig = true;
        modules = [ { freeformType = lib.types.lazyAttrsOf (lib.types.uniq lib.types.unspecified); } ];
      };
    };
    name = lib.mkOption {
      type = lib.types.str;
      default = if config.networking.hostName == "" then "unnamed" else config.networking.hostName;
      description = "The name in the toplevel's name.";
    };
    systemBuilderCommands = lib.mkOption { type = lib.types.lines; internal = true; default = ""; description = "Commands of the toplevel's build."; };
    systemBuilderArgs = lib.mkOption { type = lib.types.attrsOf lib.types.unspecified; internal = true; default = { }; description = "Arguments of the toplevel's build."; };
    extraDependencies = lib.mkOption { type = lib.types.listOf lib.types.pathInStore; default = [ ]; description = "What the closure has besides."; };
    checks = lib.mkOption { type = lib.types.listOf lib.types.package; default = [ ]; description = "What must build, without being part of the system."; };
    includeBuildDependencies = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    copySystemConfiguration = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    autoUpgrade = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    tools = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
  };
  config.system.build.toplevel = lib.asserts.checkAssertWarn config.assertions config.warnings system;
}

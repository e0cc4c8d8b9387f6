# Variants of a configuration that are built with it.
{ config, lib, extendModules, noUserModules, ... }: {
  options.specialisation = lib.mkOption {
    default = { };
    description = "Variants of this configuration.";
    type = lib.types.attrsOf (lib.types.submodule ({ config, ... }@local: {
      options.inheritParentConfig = lib.mkOption { type = lib.types.bool; default = true; description = "Whether it starts from this configuration."; };
      options.configuration = lib.mkOption {
        default = { };
        description = "What it adds.";
        inherit ((if local.config.inheritParentConfig then extendModules else noUserModules.extendModules) { modules = [ ./no-specialisation.nix ]; }) type;
      };
    }));
  };
  config.system.systemBuilderCommands = ''
    mkdir $out/specialisation
    ${lib.concatLines (lib.mapAttrsToList (name: s: "ln -s ${s.configuration.system.build.toplevel} $out/specialisation/${name}") config.specialisation)}
  '';
}

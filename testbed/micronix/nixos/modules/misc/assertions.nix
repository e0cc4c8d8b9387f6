{ lib, ... }: {
  options = {
    assertions = lib.mkOption {
      type = lib.types.listOf lib.types.unspecified;
      internal = true;
      default = [ ];
      description = "What must hold of a configuration for it to be built.";
    };
    warnings = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      internal = true;
      default = [ ];
      description = "What is said when a configuration is evaluated.";
    };
    meta = lib.mkOption {
      type = lib.types.attrsOf lib.types.unspecified;
      internal = true;
      default = { };
      description = "What modules say about themselves.";
    };
  };
}

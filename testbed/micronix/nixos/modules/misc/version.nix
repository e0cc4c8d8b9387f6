{ config, lib, ... }:
let cfg = config.system.nixos;
in {
  options.system = {
    stateVersion = lib.mkOption {
      type = lib.types.str;
      default = lib.warn "system.stateVersion is not set, defaulting to ${cfg.release}. Read why this matters on https://nixos.org/manual/nixos/stable/options.html#opt-system.stateVersion." cfg.release;
      description = "The release that this machine's state comes from.";
    };
    nixos = {
      version = lib.mkOption { type = lib.types.str; internal = true; default = cfg.release + cfg.versionSuffix; description = "The full version."; };
      release = lib.mkOption { type = lib.types.str; readOnly = true; default = lib.trivial.release; description = "The release."; };
      versionSuffix = lib.mkOption { type = lib.types.str; internal = true; default = lib.trivial.versionSuffix; description = "What follows the release in the version."; };
      revision = lib.mkOption { type = lib.types.nullOr lib.types.str; internal = true; default = null; description = "The revision of the package set."; };
      codeName = lib.mkOption { type = lib.types.str; readOnly = true; default = lib.trivial.codeName; description = "The release's name."; };
      distroId = lib.mkOption { type = lib.types.str; internal = true; default = "nixos"; description = "The ID in os-release."; };
      distroName = lib.mkOption { type = lib.types.str; internal = true; default = "NixOS"; description = "The name in os-release."; };
      variant_id = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The variant in os-release."; };
      tags = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "What goes before the version in the label."; };
      label = lib.mkOption {
        type = lib.types.strMatching "[a-zA-Z0-9:_.-]*";
        default = lib.concatStringsSep "-" (lib.sort (a: b: a < b) cfg.tags ++ [ cfg.version ]);
        description = "What the boot menu shows.";
      };
    };
    configurationRevision = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The revision of the configuration."; };
  };
  config.environment.etc.os-release.text = lib.concatLines (lib.mapAttrsToList (k: v: "${k}=${v}") ({
    ID = cfg.distroId;
    NAME = cfg.distroName;
    PRETTY_NAME = "\"${cfg.distroName} ${cfg.release} (${cfg.codeName})\"";
    VERSION = "\"${cfg.release} (${cfg.codeName})\"";
    VERSION_ID = "\"${cfg.release}\"";
    VERSION_CODENAME = lib.toLower cfg.codeName;
    BUILD_ID = "\"${cfg.version}\"";
  } // lib.optionalAttrs (cfg.variant_id != null) { VARIANT_ID = cfg.variant_id; }));
}

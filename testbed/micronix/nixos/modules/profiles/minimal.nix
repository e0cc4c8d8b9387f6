# A small system: no documentation, no more packages than it needs.
{ lib, ... }: {
  documentation = {
    enable = lib.mkDefault false;
    doc.enable = lib.mkDefault false;
    info.enable = lib.mkDefault false;
    man.enable = lib.mkDefault false;
    nixos.enable = lib.mkDefault false;
  };
  environment.defaultPackages = lib.mkDefault [ ];
  environment.stub-ld.enable = lib.mkDefault false;
  programs.command-not-found.enable = lib.mkDefault false;
}

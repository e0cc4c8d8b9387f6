{ imports = [ ../web.nix ]; }

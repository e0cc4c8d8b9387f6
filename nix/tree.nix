# A host's directory of a tree, as the store has it, to the host: the same for who releases it and on the host itself.
name: directory:
let
  # A store that lies elsewhere is seen only by what refers to it.
  place = if builtins.pathExists (/. + directory) then /. + directory else builtins.storePath directory;
in
if builtins.pathExists (place + "/flake.nix") then
  let
    systems =
      (builtins.getFlake "path:${directory}").nixosConfigurations
        or (throw "hosts/${name}/flake.nix declares no `nixosConfigurations`");
    names = builtins.attrNames systems;
  in
  if systems ? ${name} then
    systems.${name}
  else if builtins.length names == 1 then
    systems.${builtins.head names}
  else
    throw "hosts/${name}/flake.nix declares several systems, and none of them is called `${name}`"
else
  # As `nixos-rebuild` does it without flakes: by the nixpkgs of the machine that evaluates it.
  let
    nixos = import <nixpkgs/nixos> { configuration = place + "/configuration.nix"; };
  in
  nixos // { inherit (nixos.pkgs) lib; }

# The file system at evaluation time.
{ lib }:
rec {
  inherit (builtins) baseNameOf dirOf isPath readDir readFileType hashFile;
  pathType = builtins.readFileType or (path: (builtins.readDir (dirOf path)).${baseNameOf path});
  pathIsDirectory = path: builtins.pathExists path && pathType path == "directory";
  pathIsRegularFile = path: builtins.pathExists path && pathType path == "regular";
  listFilesRecursive = dir:
    lib.flatten (lib.mapAttrsToList (name: type: if type == "directory" then listFilesRecursive (dir + "/${name}") else dir + "/${name}") (builtins.readDir dir));
}

# Source trees.
{ lib }:
rec {
  filterSource = builtins.filterSource;
  cleanSourceFilter = name: type:
    let base = baseNameOf (toString name);
    in !(base == ".git" || base == ".svn" || lib.hasSuffix "~" base || (type == "symlink" && lib.hasPrefix "result" base));
  cleanSource = src: cleanSourceWith { inherit src; filter = cleanSourceFilter; };
  cleanSourceWith = { src, filter ? (_: _: true), name ? "source" }: builtins.path { inherit filter name; path = src; };
  sourceByRegex = src: regexes: cleanSourceWith {
    inherit src;
    filter = path: _: let rel = lib.removePrefix (toString src + "/") (toString path); in lib.any (re: builtins.match re rel != null) regexes;
  };
  sourceFilesBySuffices = src: suffixes: cleanSourceWith {
    inherit src;
    filter = name: type: type == "directory" || lib.any (s: lib.hasSuffix s (baseNameOf name)) suffixes;
  };
  pathHasContext = builtins.hasContext;
}

# What modules get as `utils`.
{ lib }:
rec {
  escapeSystemdPath = s:
    let
      trimmed = lib.removeSuffix "/" (lib.removePrefix "/" s);
      char = c: if c == "/" then "-" else if builtins.match "[a-zA-Z0-9:_.]" c != null then c else "\\x" + hex c;
      hex = c: lib.toLower (lib.toHexString (code c));
      code = c: 32 + lib.lists.findFirstIndex (x: x == c) 0 (lib.stringToCharacters " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~");
    in if trimmed == "" then "-" else lib.concatStrings (lib.imap0 (i: c: if i == 0 && c == "." then "\\x2e" else char c) (lib.stringToCharacters trimmed));
  escapeSystemdExecArg = arg: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON (toString arg));
  escapeSystemdExecArgs = lib.concatMapStringsSep " " escapeSystemdExecArg;
  toShellPath = shell: if shell ? shellPath then "${shell}${shell.shellPath}" else toString shell;
  removePackagesByName = packages: gone: lib.filter (p: !lib.elem (lib.getName p) (map lib.getName gone)) packages;
}

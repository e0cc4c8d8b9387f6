# Command lines from attribute sets.
{ lib }:
rec {
  toGNUCommandLine = _: options:
    lib.concatLists (lib.mapAttrsToList (name: v:
      let flag = (if lib.stringLength name > 1 then "--" else "-") + name;
      in if v == true then [ flag ]
         else if v == false || v == null then [ ]
         else if builtins.isList v then lib.concatMap (one: [ flag (toString one) ]) v
         else [ flag (toString v) ]) options);
  toGNUCommandLineShell = opts: options: lib.escapeShellArgs (toGNUCommandLine opts options);
}

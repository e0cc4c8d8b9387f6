# Values to text.
{ lib }:
let
  inherit (builtins) isAttrs isBool isFloat isFunction isInt isList isPath isString;
in rec {
  mkValueStringDefault = _: v:
    if isInt v || isString v then toString v
    else if v == true then "true"
    else if v == false then "false"
    else if v == null then "null"
    else if isFloat v then lib.strings.removeSuffix "0000" (toString v)
    else if isPath v || lib.isDerivation v then toString v
    else abort "generators.mkValueStringDefault: this value is not supported: ${toPretty { } v}";
  mkKeyValueDefault = { mkValueString ? mkValueStringDefault { } }: sep: k: v: "${lib.escape [ sep ] k}${sep}${mkValueString v}";
  toKeyValue = { mkKeyValue ? mkKeyValueDefault { } "=", listsAsDuplicateKeys ? false, indent ? "" }: set:
    lib.concatStrings (lib.concatLists (lib.mapAttrsToList (k: v:
      map (one: "${indent}${mkKeyValue k one}\n") (if listsAsDuplicateKeys && isList v then v else [ v ])) set));
  toINI = { mkSectionName ? (name: lib.escape [ "[" "]" ] name), mkKeyValue ? mkKeyValueDefault { } "=", listsAsDuplicateKeys ? false }: sections:
    lib.concatStringsSep "\n" (lib.mapAttrsToList (name: set: "[${mkSectionName name}]\n" + toKeyValue { inherit mkKeyValue listsAsDuplicateKeys; } set) sections);
  toINIWithGlobalSection = opts: { globalSection, sections ? { } }:
    (if globalSection == { } then "" else toKeyValue opts globalSection + "\n") + toINI opts sections;
  toJSON = _: builtins.toJSON;
  toYAML = toJSON;
  toGitINI = toINI { };
  mkLuaInline = expr: { _type = "lua-inline"; inherit expr; };

  # Cuts a value off below a depth, so that showing it in an error ends.
  withRecursion = { depthLimit, throwOnDepthLimit ? true }:
    let
      special = [ "__functor" "__functionArgs" "__toString" "__pretty" ];
      go = depth: v:
        if depth > depthLimit then
          (if throwOnDepthLimit then throw "Exceeded maximum eval-depth limit of ${toString depthLimit} while trying to evaluate with `generators.withRecursion'!" else "<unevaluated>")
        else if isAttrs v then
          (if lib.isDerivation v then v else builtins.mapAttrs (name: x: if builtins.elem name special then x else go (depth + 1) x) v)
        else if isList v then map (go (depth + 1)) v
        else v;
    in go 0;

  toPretty = { multiline ? true, indent ? "", ... }:
    let
      go = indent: v:
        let
          open = if multiline then "\n${indent}  " else " ";
          close = if multiline then "\n${indent}" else " ";
          deeper = go (indent + "  ");
        in
          if isInt v then toString v
          else if isFloat v then builtins.toJSON v
          else if isString v then text open close v
          else if v == true then "true"
          else if v == false then "false"
          else if v == null then "null"
          else if isPath v then toString v
          else if isList v then (if v == [ ] then "[ ]" else "[" + open + lib.concatMapStringsSep open deeper v + close + "]")
          else if isFunction v || v ? __functor then functionText v
          else if v == { } then "{ }"
          else if lib.isDerivation v then "<derivation ${v.name or "???"}>"
          else "{" + open + lib.concatStringsSep open (lib.mapAttrsToList (name: x: "${lib.strings.escapeNixIdentifier name} = ${deeper x};") v) + close + "}";
      functionText = v:
        let args = lib.functionArgs v;
        in if args == { } then "<function>"
           else "<function, args: {${lib.concatStringsSep ", " (lib.mapAttrsToList (name: optional: if optional then "${name}?" else name) args)}}>";
      text = open: close: v:
        let
          lines = lib.splitString "\n" v;
          inMultiline = map (builtins.replaceStrings [ "\${" "''" ] [ "''\${" "'''" ]) lines;
          end = lib.last inMultiline;
        in
          if multiline && builtins.length lines > 1
          then "''" + open + lib.concatStringsSep open (lib.init inMultiline) + (if end == "" then close else open + end) + "''"
          else "\"" + lib.concatMapStringsSep "\\n" (lib.escape [ "\\" "\"" "\${" ]) lines + "\"";
    in go indent;
}

# Declaring options, and merging the definitions of one option.
{ lib }:
let
  inherit (builtins) all concatLists filter foldl' head isAttrs isBool isFunction isInt isList isString length map tail;
  prioritySuggestion = "Use `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.";
in rec {
  isOption = lib.types.isType "option";
  mkOption = attrs: attrs // { _type = "option"; };
  mkEnableOption = name: mkOption {
    default = false;
    example = true;
    description = "Whether to enable ${name}.";
    type = lib.types.bool;
  };
  mkPackageOption = pkgs: name: { nullable ? false, default ? name, ... }:
    let path = lib.toList default;
    in mkOption ({
      description = "The ${lib.last (lib.toList name)} package to use.";
      type = if nullable then lib.types.nullOr lib.types.package else lib.types.package;
    } // (
      if default != null then { default = lib.attrByPath path (throw "${lib.showAttrPath path} cannot be found in pkgs") pkgs; }
      else lib.optionalAttrs nullable { default = null; }));
  mkSinkUndeclaredOptions = attrs: mkOption ({
    internal = true;
    visible = false;
    default = false;
    description = "Sink for option definitions.";
    type = lib.types.mkOptionType { name = "sink"; check = _: true; merge = _: _: false; };
    apply = _: throw "Option value is not readable because the option is not declared.";
  } // attrs);

  literalExpression = text: { _type = "literalExpression"; inherit text; };
  literalExample = literalExpression;
  literalMD = text: { _type = "literalMD"; inherit text; };
  mdDoc = text: text;
  unknownModule = "<unknown-file>";

  getValues = map (def: def.value);
  getFiles = map (def: def.file);

  # How the values of several definitions become one, for each kind of type.
  mergeDefaultOption = loc: defs:
    let values = getValues defs;
    in
      if length values == 1 then head values
      else if all isFunction values then (x: mergeDefaultOption loc (map (def: def // { value = def.value x; }) defs))
      else if all isList values then concatLists values
      else if all isAttrs values then foldl' (a: b: a // b) { } values
      else if all isBool values then lib.any (b: b) values
      else if all isString values then lib.concatStrings values
      else if all isInt values && all (v: v == head values) values then head values
      else throw "Cannot merge definitions of `${showOption loc}'. Definition values:${showDefs defs}";
  mergeUniqueOption = { message, merge ? (_: defs: (head defs).value) }: loc: defs:
    if length defs == 1 then merge loc defs
    else throw "The option `${showOption loc}' is defined multiple times while it's expected to be unique.\n${message}\nDefinition values:${showDefs defs}\n${prioritySuggestion}";
  mergeOneOption = mergeUniqueOption { message = ""; };
  mergeEqualOption = loc: defs:
    let
      first = head defs;
      other = lib.findFirst (def: def.value != first.value) null (tail defs);
    in
      if length defs == 1 || other == null then first.value
      else throw "The option `${showOption loc}' has conflicting definition values:${showDefs [ first other ]}\n${prioritySuggestion}";

  showOption = parts:
    lib.concatMapStringsSep "." (part:
      if part == "*" || builtins.match "<(.*)>" part != null then part else lib.strings.escapeNixIdentifier part) parts;
  showFiles = files: lib.concatMapStringsSep " and " (file: "`${file}'") files;
  # Each definition on a line of its own with its file, and its value where that can be shown.
  showDefs = defs: lib.concatMapStrings (def:
    let
      shown = builtins.tryEval (
        let text = lib.generators.toPretty { } (lib.generators.withRecursion { depthLimit = 10; throwOnDepthLimit = false; } def.value);
        in builtins.deepSeq text text);
      lines = lib.splitString "\n" shown.value;
      short = lib.concatStringsSep "\n    " (lib.take 5 lines ++ lib.optional (length lines > 5) "...");
    in "\n- In `${def.file}'" + (
      if !shown.success then ""
      else if length lines > 1 then ":\n    " + short
      else ": " + short)) defs;
  showOptionWithDefLocs = opt: "${showOption opt.loc}, with values defined in:\n${lib.concatMapStringsSep "\n" (file: "  - ${file}") opt.files}\n";

  optionAttrSetToDocList = options: map (opt: {
    inherit (opt) loc;
    name = showOption opt.loc;
    description = opt.description or null;
    internal = opt.internal or false;
    visible = opt.visible or true;
    readOnly = opt.readOnly or false;
    type = opt.type.description or "unspecified";
  }) (lib.collect isOption options);
  scrubOptionValue = v: v;
}

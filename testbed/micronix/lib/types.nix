# The types of options: what is allowed, and how several definitions become one value.
#
# A type has a `check` on single values and a `merge` over definitions. Types whose elements are checked on their own
# carry `headChecked`: there the error for a wrong value is worded as nixpkgs words it since its second merge protocol.
{ lib }:
let
  inherit (builtins) all attrNames elem elemAt filter head isAttrs isBool isFloat isInt isList isPath isString length map mapAttrs;
  inherit (lib.options) getFiles mergeDefaultOption mergeEqualOption mergeOneOption mergeUniqueOption showDefs showFiles showOption;
  inherit (lib.modules) mergeDefinitions;

  # A type's description inside another's, in parentheses where it would read wrongly without.
  phrase = classes: type:
    if elem (type.descriptionClass or null) classes then type.description else "(${type.description})";
  noun = phrase [ "noun" ];
  nounOr = class: phrase [ "noun" class ];

  # The parts that a type with an element type shares.
  wrap = name: make: elemType: {
    inherit name;
    getSubModules = elemType.getSubModules;
    substSubModules = modules: make (elemType.substSubModules modules);
    nestedTypes.elemType = elemType;
    functor = {
      inherit name;
      type = payload: make payload.elemType;
      payload = { inherit elemType; };
      binOp = a: b: let merged = a.elemType.typeMerge b.elemType.functor; in if merged == null then null else { elemType = merged; };
    };
  };
in rec {
  isType = type: x: x._type or "" == type;
  setType = _type: value: value // { inherit _type; };
  isOptionType = isType "option-type";
  types = lib.types;

  defaultFunctor = name: { inherit name; type = lib.types.${name} or null; payload = null; binOp = _: _: null; };
  defaultTypeMerge = f: g:
    if f.name != g.name then null
    else if f.payload == null then f.type
    else let payload = f.binOp f.payload g.payload; in if payload == null then null else f.type payload;

  mkOptionType = { name, ... }@given:
    let
      type = {
        _type = "option-type";
        description = name;
        descriptionClass = null;
        check = _: true;
        merge = mergeDefaultOption;
        emptyValue = { };
        getSubOptions = _: { };
        getSubModules = null;
        substSubModules = _: null;
        functor = defaultFunctor name;
        typeMerge = defaultTypeMerge type.functor;
        deprecationMessage = null;
        nestedTypes = { };
      } // given;
    in if given.description or name == null then type // { description = name; } else type;

  simple = name: description: check: mkOptionType { inherit name description check; descriptionClass = "noun"; merge = mergeEqualOption; };

  raw = mkOptionType { name = "raw"; description = "raw value"; descriptionClass = "noun"; merge = mergeOneOption; };
  unspecified = mkOptionType { name = "unspecified"; description = "unspecified value"; descriptionClass = "noun"; };
  anything = mkOptionType {
    name = "anything";
    description = "anything";
    descriptionClass = "noun";
    merge = loc: defs:
      let
        kind = v: if isAttrs v && lib.strings.isStringLike v then "stringCoercibleSet" else builtins.typeOf v;
        kinds = lib.unique (map (def: kind def.value) defs);
      in
        if length kinds > 1 then throw "The option `${showOption loc}' has conflicting option types in ${showFiles (getFiles defs)}"
        else {
          set = (attrsOf anything).merge;
          stringCoercibleSet = mergeOneOption;
          lambda = at: fs: arg: anything.merge (at ++ [ "<function body>" ]) (map (def: { inherit (def) file; value = def.value arg; }) fs);
        }.${head kinds} or mergeEqualOption loc defs;
  };

  bool = simple "bool" "boolean" isBool;
  boolByOr = bool // { name = "boolByOr"; description = "boolean (merged using or)"; merge = _: lib.any (def: def.value); };
  int = simple "int" "signed integer" isInt;
  float = simple "float" "floating point number" isFloat;
  number = either int float;
  numbers = {
    between = low: high: addCheck number (x: x >= low && x <= high) // {
      name = "numberBetween";
      description = "integer or floating point number between ${builtins.toJSON low} and ${builtins.toJSON high} (both inclusive)";
    };
    nonnegative = addCheck number (x: x >= 0) // { name = "numberNonnegative"; description = "nonnegative integer or floating point number, meaning >=0"; descriptionClass = "nonRestrictiveClause"; };
    positive = addCheck number (x: x > 0) // { name = "numberPositive"; description = "positive integer or floating point number, meaning >0"; descriptionClass = "nonRestrictiveClause"; };
  };
  ints = let
    within = low: high: "${toString low} and ${toString high} (both inclusive)";
    between = low: high:
      assert lib.assertMsg (low <= high) "ints.between: lowest must be smaller than highest";
      addCheck int (x: x >= low && x <= high) // { name = "intBetween"; description = "integer between ${within low high}"; };
    sized = low: high: name: start: between low high // { inherit name; description = "${start}; between ${within low high}"; };
    unsignedOf = bits: range: sized 0 (range - 1) "unsignedInt${toString bits}" "${toString bits} bit unsigned integer";
    signedOf = bits: range: sized (0 - range / 2) (range / 2 - 1) "signedInt${toString bits}" "${toString bits} bit signed integer";
  in {
    inherit between;
    unsigned = addCheck int (x: x >= 0) // { name = "unsignedInt"; description = "unsigned integer, meaning >=0"; descriptionClass = "nonRestrictiveClause"; };
    positive = addCheck int (x: x > 0) // { name = "positiveInt"; description = "positive integer, meaning >0"; descriptionClass = "nonRestrictiveClause"; };
    u8 = unsignedOf 8 256;
    u16 = unsignedOf 16 65536;
    u32 = unsignedOf 32 4294967296;
    s8 = signedOf 8 256;
    s16 = signedOf 16 65536;
    s32 = signedOf 32 4294967296;
  };
  port = ints.u16;

  str = simple "str" "string" isString;
  string = separatedString "" // { name = "string"; };
  nonEmptyStr = simple "nonEmptyStr" "non-empty string" (x: isString x && builtins.match "[ \t\n]*" x == null);
  singleLineStr = simple "singleLineStr" "(optionally newline-terminated) single-line string" (x: isString x && builtins.match "[^\n\r]*\n?" x != null)
    // { merge = loc: defs: lib.removeSuffix "\n" (mergeEqualOption loc defs); };
  strMatching = pattern:
    simple "strMatching ${lib.strings.escapeNixString pattern}" "string matching the pattern ${pattern}" (x: isString x && builtins.match pattern x != null)
    // (let functor = defaultFunctor "strMatching" // { type = p: strMatching p.pattern; payload = { inherit pattern; }; binOp = a: b: if a == b then a else null; }; in { inherit functor; typeMerge = defaultTypeMerge functor; });
  separatedString = sep: mkOptionType {
    name = "separatedString";
    description = "strings concatenated with ${builtins.toJSON sep}";
    descriptionClass = "noun";
    check = isString;
    merge = _: defs: lib.concatStringsSep sep (map (def: def.value) defs);
    functor = defaultFunctor "separatedString" // { type = p: separatedString p.sep; payload = { inherit sep; }; binOp = a: b: if a == b then a else null; };
  };
  lines = separatedString "\n";
  commas = separatedString ",";
  envVar = separatedString ":";
  passwdEntry = entry: addCheck entry (s: !(lib.hasInfix ":" s || lib.hasInfix "\n" s)) // {
    name = "passwdEntry ${entry.name}";
    description = "${noun entry}, not containing newlines or colons";
    descriptionClass = "nonRestrictiveClause";
  };

  attrs = mkOptionType {
    name = "attrs";
    description = "attribute set";
    check = isAttrs;
    merge = _: lib.foldl' (all: def: all // def.value) { };
    emptyValue.value = { };
  };
  package = mkOptionType {
    name = "package";
    descriptionClass = "noun";
    check = x: lib.isDerivation x || lib.strings.isStorePath x;
    merge = loc: defs:
      let one = mergeOneOption loc defs;
      in if isPath one || (isString one && !builtins.hasContext one) then lib.toDerivation one else one;
  };
  shellPackage = package // { check = x: lib.isDerivation x && x ? shellPath; };
  pkgs = addCheck (unique { message = "A Nixpkgs pkgs set can not be merged with another pkgs set."; } attrs // { name = "pkgs"; descriptionClass = "noun"; description = "Nixpkgs package set"; }) (x: x._type or null == "pkgs");
  path = pathWith { absolute = true; };
  pathInStore = pathWith { inStore = true; };
  externalPath = pathWith { absolute = true; inStore = false; };
  pathWith = { inStore ? null, absolute ? null }: mkOptionType {
    name = "path";
    description =
      (if absolute == null then "" else if absolute then "absolute " else "relative ") + "path"
      + (if inStore == null then "" else if inStore then " in the Nix store" else " not in the Nix store");
    descriptionClass = "noun";
    merge = mergeEqualOption;
    check = x:
      let s = builtins.unsafeDiscardStringContext (toString x);
      in (if inStore == false then isString x else lib.strings.isStringLike x)
        && (inStore == null || inStore == (lib.hasPrefix "${builtins.storeDir}/" s || lib.hasPrefix "/nix/store/" s))
        && (absolute == null || absolute == (builtins.substring 0 1 s == "/"));
    functor = defaultFunctor "path" // { type = pathWith; payload = { inherit inStore absolute; }; binOp = a: b: if a == b then a else null; };
  };

  enum = values:
    let show = v: if isString v then ''"${v}"'' else if isInt v then toString v else if isBool v then lib.boolToString v else "<${builtins.typeOf v}>";
    in mkOptionType {
      name = "enum";
      description =
        if values == [ ] then "impossible (empty enum)"
        else if length values == 1 then "value ${show (head values)} (singular enum)"
        else "one of ${lib.concatMapStringsSep ", " show values}";
      descriptionClass = if length values < 2 then "noun" else "conjunction";
      check = x: elem x values;
      merge = mergeEqualOption;
      functor = defaultFunctor "enum" // { type = p: enum p.values; payload = { inherit values; }; binOp = a: b: { values = lib.unique (a.values ++ b.values); }; };
    };

  uniq = unique { message = ""; };
  unique = { message }: type: mkOptionType (wrap "unique" (unique { inherit message; }) type // {
    inherit (type) description descriptionClass check emptyValue getSubOptions;
    merge = mergeUniqueOption { inherit message; inherit (type) merge; };
  });
  nullOr = elemType: mkOptionType (wrap "nullOr" nullOr elemType // {
    description = "null or ${nounOr "conjunction" elemType}";
    descriptionClass = "conjunction";
    check = x: x == null || elemType.check x;
    merge = loc: defs:
      let nulls = filter (def: def.value == null) defs;
      in
        if nulls == [ ] then elemType.merge loc defs
        else if length nulls == length defs then null
        else throw "The option `${showOption loc}` is defined both null and not null, in ${showFiles (getFiles defs)}.";
    emptyValue.value = null;
    inherit (elemType) getSubOptions;
  });

  listOf = elemType: mkOptionType (wrap "listOf" listOf elemType // {
    description = "list of ${nounOr "composite" elemType}";
    descriptionClass = "composite";
    headChecked = true;
    check = isList;
    merge = loc: defs: map (x: x.mergedValue) (filter (x: x.isDefined) (lib.concatLists (lib.imap1 (n: def:
      lib.imap1 (m: value: mergeDefinitions (loc ++ [ "[definition ${toString n}-entry ${toString m}]" ]) elemType [ { inherit (def) file; inherit value; } ]) def.value) defs)));
    emptyValue.value = [ ];
    getSubOptions = prefix: elemType.getSubOptions (prefix ++ [ "*" ]);
  });
  nonEmptyListOf = elemType:
    let list = addCheck (listOf elemType) (l: l != [ ]);
    in list // { description = "non-empty ${noun list}"; emptyValue = { }; substSubModules = m: nonEmptyListOf (elemType.substSubModules m); };

  attrsOf = elemType: attrsWith { inherit elemType; };
  lazyAttrsOf = elemType: attrsWith { inherit elemType; lazy = true; };
  attrsWith = { elemType, lazy ? false, placeholder ? "name" }:
    mkOptionType (
      let base = wrap "attrsOf" (e: attrsWith { elemType = e; inherit lazy placeholder; }) elemType;
      in base // {
        name = if lazy then "lazyAttrsOf" else "attrsOf";
        functor = base.functor // { name = if lazy then "lazyAttrsOf" else "attrsOf"; };
        description = "${if lazy then "lazy attribute set" else "attribute set"} of ${nounOr "composite" elemType}";
        descriptionClass = "composite";
        headChecked = true;
        check = isAttrs;
        merge = loc: defs:
          let
            merged = builtins.zipAttrsWith (name: mergeDefinitions (loc ++ [ name ]) elemType)
              (map (def: mapAttrs (_: value: { inherit (def) file; inherit value; }) def.value) defs);
          in
            if lazy then mapAttrs (_: m: if m.isDefined then m.mergedValue else elemType.emptyValue.value or m.mergedValue) merged
            else mapAttrs (_: m: m.mergedValue) (lib.filterAttrs (_: m: m.isDefined) merged);
        emptyValue.value = { };
        getSubOptions = prefix: elemType.getSubOptions (prefix ++ [ "<${placeholder}>" ]);
      });

  functionTo = elemType: mkOptionType (wrap "functionTo" functionTo elemType // {
    description = "function that evaluates to a(n) ${nounOr "composite" elemType}";
    descriptionClass = "composite";
    check = lib.isFunction;
    merge = loc: defs: {
      __functionArgs = builtins.zipAttrsWith (_: all (x: x)) (map (def: lib.functionArgs def.value) defs);
      __functor = _: arg: (mergeDefinitions (loc ++ [ "<function body>" ]) elemType (map (def: { inherit (def) file; value = def.value arg; }) defs)).mergedValue;
    };
    getSubOptions = prefix: elemType.getSubOptions (prefix ++ [ "<function body>" ]);
  });

  submodule = modules: submoduleWith { modules = lib.toList modules; shorthandOnlyDefinesConfig = true; };
  submoduleWith = { modules, specialArgs ? { }, shorthandOnlyDefinesConfig ? false, description ? null, class ? null }@given:
    let
      base = lib.modules.evalModules {
        inherit class specialArgs;
        modules = [ { _module.args.name = lib.mkOptionDefault "‹name›"; } ] ++ modules;
      };
      asModule = { value, file, ... }:
        if isAttrs value && shorthandOnlyDefinesConfig == true then { _file = file; config = value; } else { _file = file; imports = [ value ]; };
      agree = what: a: b:
        if a == null || a == b then b else if b == null then a
        else throw "A submoduleWith option is declared multiple times with conflicting ${what}";
    in mkOptionType {
      name = "submodule";
      description = if description != null then description else "submodule";
      headChecked = true;
      check = x: isAttrs x || lib.isFunction x || path.check x;
      merge = loc: defs: (base.extendModules {
        modules = [ { _module.args.name = lib.last loc; } ] ++ map asModule defs;
        prefix = loc;
      }).config;
      emptyValue.value = base.config;
      getSubOptions = prefix: (base.extendModules { inherit prefix; modules = [ { config._module.check = lib.mkForce false; } ]; }).options;
      getSubModules = modules;
      substSubModules = m: submoduleWith (given // { modules = m; });
      functor = defaultFunctor "submodule" // {
        type = submoduleWith;
        payload = { inherit modules specialArgs shorthandOnlyDefinesConfig description class; };
        binOp = a: b: {
          modules = a.modules ++ b.modules;
          specialArgs =
            let twice = builtins.intersectAttrs a.specialArgs b.specialArgs;
            in if twice == { } then a.specialArgs // b.specialArgs
               else throw "A submoduleWith option is declared multiple times with the same specialArgs \"${toString (attrNames twice)}\"";
          shorthandOnlyDefinesConfig = agree "shorthandOnlyDefinesConfig values" a.shorthandOnlyDefinesConfig b.shorthandOnlyDefinesConfig;
          description = agree "descriptions" a.description b.description;
          class = agree "class values" a.class b.class;
        };
      };
    };
  deferredModule = deferredModuleWith { };
  deferredModuleWith = { staticModules ? [ ] }: mkOptionType {
    name = "deferredModule";
    description = "module";
    descriptionClass = "noun";
    check = x: isAttrs x || lib.isFunction x || path.check x;
    merge = loc: defs: {
      imports = staticModules ++ map (def: lib.modules.setDefaultModuleLocation "${def.file}, via option ${showOption loc}" def.value) defs;
    };
    getSubModules = staticModules;
    substSubModules = m: deferredModuleWith { staticModules = m; };
    functor = defaultFunctor "deferredModuleWith" // { type = deferredModuleWith; payload = { inherit staticModules; }; binOp = a: b: { staticModules = a.staticModules ++ b.staticModules; }; };
  };
  optionType = mkOptionType { name = "optionType"; description = "optionType"; descriptionClass = "noun"; check = isOptionType; merge = mergeOneOption; };
  optionDeclaration = mkOptionType { name = "optionDeclaration"; description = "option declaration"; descriptionClass = "noun"; check = isType "option"; };

  either = a: b: mkOptionType {
    name = "either";
    description =
      if a.descriptionClass or null == "nonRestrictiveClause" then "${a.description}, or ${nounOr "conjunction" b}"
      else "${nounOr "conjunction" a} or ${phrase [ "noun" "conjunction" "composite" ] b}";
    descriptionClass = "conjunction";
    headChecked = true;
    check = x: a.check x || b.check x;
    # All definitions must be of one side; a mixture is of neither.
    headError = loc: defs:
      if all (def: a.check def.value) defs || all (def: b.check def.value) defs then null
      else "The option `${showOption loc}` is neither a value of type `${a.description}` nor `${b.description}`, Definition values: ${showDefs defs}";
    merge = loc: defs:
      if all (def: a.check def.value) defs then a.merge loc defs
      else if all (def: b.check def.value) defs then b.merge loc defs
      else mergeOneOption loc defs;
    typeMerge = f:
      let
        left = a.typeMerge (head f.payload.elemType).functor;
        right = b.typeMerge (elemAt f.payload.elemType 1).functor;
      in if f.name == "either" && left != null && right != null then either left right else null;
    functor = defaultFunctor "either" // { payload.elemType = [ a b ]; };
    nestedTypes = { left = a; right = b; };
  };
  oneOf = ts: if ts == [ ] then throw "types.oneOf needs to get at least one type in its argument" else lib.foldl' either (head ts) (builtins.tail ts);

  coercedTo = from: f: to:
    assert lib.assertMsg (from.getSubModules == null) "coercedTo: coercedType must not have submodules (it’s a ${from.description})";
    mkOptionType {
      name = "coercedTo";
      description = "${noun to} or ${noun from} convertible to it";
      headChecked = true;
      check = x: (from.check x && to.check (f x)) || to.check x;
      merge = loc: defs: to.merge loc (map (def: def // { value = if from.check def.value then f def.value else def.value; }) defs);
      inherit (to) emptyValue getSubOptions getSubModules;
      substSubModules = m: coercedTo from f (to.substSubModules m);
      typeMerge = _: null;
      nestedTypes = { coercedType = from; finalType = to; };
    };

  addCheck = type: check: type // { check = x: type.check x && check x; };

  # Values that a file format can hold.
  serializableValueWith = { typeName, nullable ? true }:
    let
      base = oneOf [ bool int float str path (attrsOf value) (listOf value) ];
      value = (if nullable then nullOr base else base) // { description = "${typeName} value"; };
    in value;
  json = serializableValueWith { typeName = "JSON"; };
  toml = serializableValueWith { typeName = "TOML"; nullable = false; };
}

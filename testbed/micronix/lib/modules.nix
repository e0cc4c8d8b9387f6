# The module system: collects modules, and merges what they declare and define into one configuration.
#
#   modules ──load──▶ a tree of modules ──collect──▶ a list, each once, without the disabled ones
#           ──merge──▶ for each option: its declarations as one, its definitions as one value
{ lib }:
let
  inherit (builtins)
    addErrorContext all any attrNames concatLists concatMap elem filter foldl' genericClosure head isAttrs isList isString
    length map mapAttrs removeAttrs seq sort substring tail toString typeOf;
  inherit (lib.options) isOption mkOption showDefs showFiles showOption unknownModule;
  types = lib.types;

  defaultPriority = 100;
  defaultOrder = 1000;
  tag = v: v._type or "";

  # What may stand beside `options` and `config` at the top of a module.
  besides = [ "_class" "_file" "key" "disabledModules" "imports" "options" "config" "meta" "freeformType" ];
in rec {
  evalModules = { modules, prefix ? [ ], specialArgs ? { }, class ? null, args ? null, check ? null }@given:
    let
      own = modules
        ++ lib.optional (args != null) { config._module.args = args; }
        ++ lib.optional (check != null) { config._module.check = mkDefault check; };

      # The options that steer the evaluation itself.
      internal = {
        _file = "lib/modules.nix";
        key = "lib/modules.nix";
        options._module = {
          args = mkOption { type = types.lazyAttrsOf types.raw; internal = true; description = "Additional arguments passed to each module."; };
          check = mkOption { type = types.bool; internal = true; default = true; description = "Whether definitions without an option are an error."; };
          freeformType = mkOption { type = types.nullOr types.optionType; internal = true; default = null; description = "The type of definitions that have no option."; };
          specialArgs = mkOption { readOnly = true; internal = true; description = "Arguments that are there when imports are resolved."; };
        };
        config._module = {
          args = { inherit extendModules; moduleType = type; };
          inherit specialArgs;
        };
      };

      context = {
        inherit lib options specialArgs;
        _class = class;
        _prefix = prefix;
        config = addErrorContext "if you get an infinite recursion here, you probably reference `config` in `imports`. If you are trying to achieve a conditional import behavior dependent on `config`, consider importing unconditionally, and using `mkEnableOption` and `mkIf` to control its effect." config;
      } // specialArgs;

      merged = mergeModules prefix (lib.reverseList (collect class (specialArgs.modulesPath or "") (own ++ [ internal ]) context));
      options = merged.matchedOptions;
      declared = valuesOf options;
      freeform = declared._module.freeformType;
      config =
        if freeform == null then declared
        else if merged.unmatchedDefns == [ ] then declared
        else lib.recursiveUpdate
          (freeform.merge prefix (map (def: { inherit (def) file; value = lib.setAttrByPath def.prefix def.value; }) merged.unmatchedDefns))
          declared;

      checked =
        if declared._module.check && freeform == null && merged.unmatchedDefns != [ ]
        then throwUndeclared prefix options (head merged.unmatchedDefns)
        else null;

      extendModules = { modules ? [ ], specialArgs ? { }, prefix ? given.prefix or [ ] }:
        evalModules (removeAttrs given [ "args" "check" ] // {
          modules = own ++ modules;
          specialArgs = given.specialArgs or { } // specialArgs;
          inherit prefix;
        });
      type = types.submoduleWith { inherit modules specialArgs class; };
    in {
      _type = "configuration";
      options = seq checked options;
      config = seq checked (removeAttrs config [ "_module" ]);
      _module = seq checked config._module;
      inherit extendModules type class;
    };

  valuesOf = mapAttrs (_: v: if isOption v then v.value else valuesOf v);

  # A definition that no option matches, with the names that it may have meant.
  throwUndeclared = prefix: options: def:
    let
      path = prefix ++ def.prefix;
      parent = lib.init def.prefix;
      siblings = attrNames (lib.attrByPath parent { } options);
      candidates = if parent == [ ] then lib.remove "_module" siblings else siblings;
      wanted = lib.last def.prefix;
      near = if length candidates < 100 then candidates else filter (lib.strings.levenshteinAtMost 2 wanted) candidates;
      suggestions = map (name: "`${showOption (lib.init path ++ [ name ])}'") (lib.take 3 (lib.sortOn (lib.strings.levenshtein wanted) near));
      hint =
        if suggestions == [ ] then ""
        else if length suggestions == 1 then "\n\nDid you mean ${head suggestions}?"
        else "\n\nDid you mean ${lib.concatStringsSep ", " (lib.init suggestions)} or ${lib.last suggestions}?";
      text = "The option `${showOption path}' does not exist. Definition values:${showDefs [ def ]}${hint}";
    in
      if attrNames options != [ "_module" ] then throw text
      else if prefix == [ ] then throw "${text}\n\nIt seems as if you're trying to declare an option by placing it into `config' rather than `options'!\n"
      else throw "${text}\n\nHowever there are no options defined in `${showOption prefix}'. Are you sure you've\ndeclared your options properly? This can happen if you e.g. declared your options in `types.submodule'\nunder `config' rather than `options'.\n";

  # ── Collecting ──────────────────────────────────────────────────────────────────────────────────────────────────

  collect = class: modulesPath: modules: context:
    let
      tree = load class context unknownModule "" modules;
      disabled = disabledKeys modulesPath tree;
      keep = filter (node: !elem node.key disabled);
    in map (node: node.module) (genericClosure { startSet = keep tree; operator = node: keep node.children; });

  load = class: context: file: key: lib.imap1 (n: x:
    let
      module = checkClass class (loadOne class context file "${key}:anon-${toString n}" x);
    in {
      inherit (module) key;
      inherit module;
      children = load class context module._file module.key module.imports;
    });

  loadOne = class: context: file: key: m:
    if lib.isFunction m then normalise file key (applyModule key m context)
    else if isAttrs m then
      (if m._type or "module" == "module" then normalise file key m
       else if m._type == "if" || m._type == "override" then normalise file key { config = m; }
       else throw "Could not load a value as a module, because it is of type ${lib.strings.escapeNixString m._type}, in file ${toString file}.")
    else if isList m then
      throw "Module imports can't be nested lists. Perhaps you meant to remove one level of lists? Definitions: ${showDefs [ { inherit file; value = m; } ]}"
    else
      let path = toString m; body = import m;
      in normalise path path (if lib.isFunction body then applyModule path body context else body);

  checkClass = class: m:
    if class == null || m._class == null || m._class == class then m
    else throw "The module `${m._file}` (class: ${lib.strings.escapeNixString m._class}) cannot be imported into a module evaluation that expects class ${lib.strings.escapeNixString class}.\n";

  disabledKeys = modulesPath: concatMap (node:
    map (keyOfDisabled modulesPath node.module._file) node.module.disabledModules ++ disabledKeys modulesPath node.children);
  keyOfDisabled = modulesPath: file: m:
    if isString m then (if substring 0 1 m == "/" then m else "${toString modulesPath}/${m}")
    else if m ? key then m.key
    else if lib.strings.isConvertibleWithToString m then toString m
    else throw "Module `${file}` contains a disabledModules item that is an attribute set, presumably a module, that does not have a `key` attribute. This means that the module system doesn't have any means to identify the module that should be disabled. Make sure that you've put the correct value in disabledModules: a string path relative to modulesPath, a path value, or an attribute set with a `key` attribute.";

  # Calls a module with the arguments that it names: those that are there from outside, else `_module.args`.
  applyModule = key: f: context:
    f (context // mapAttrs (name: _:
      addErrorContext "while evaluating the module argument `${name}' in \"${key}\":"
        (context.${name} or (addErrorContext "noting that argument `${name}` is not externally provided, so querying `_module.args` instead, requiring `config`" context.config._module.args.${name}))
    ) (lib.functionArgs f));
  applyModuleArgsIfFunction = key: f: args: if lib.isFunction f then applyModule key f args else f;

  # A module in its full form, whichever way it was written.
  unifyModuleSyntax = normalise;
  normalise = file: key: m:
    if !isAttrs m then throw "module ${toString file} (${key}) does not look like a module."
    else
      let
        full = m ? config || m ? options;
        extra = removeAttrs m besides;
        body = if full then m.config or { } else removeAttrs m [ "_class" "_file" "key" "disabledModules" "require" "imports" "freeformType" ];
        parts = [ body ] ++ lib.optional (full && m ? meta) { inherit (m) meta; }
          ++ lib.optional (m ? freeformType) { _module.freeformType = m.freeformType; };
      in
        if full && extra != { } then
          throw "Module `${key}' has an unsupported attribute `${head (attrNames extra)}'. This is caused by introducing a top-level `config' or `options' attribute. Add configuration attributes immediately on the top level instead, or move all of them (namely: ${toString (attrNames extra)}) into the explicit `config' attribute."
        else {
          _file = toString (m._file or file);
          _class = m._class or null;
          key = toString (m.key or key);
          disabledModules = m.disabledModules or [ ];
          imports = m.imports or [ ] ++ (if full then [ ] else m.require or [ ]);
          options = m.options or { };
          config = if length parts == 1 then body else mkMerge parts;
        };

  setDefaultModuleLocation = file: m: { _file = file; imports = [ m ]; };
  importApply = path: arg: setDefaultModuleLocation path (import path arg);
  importJSON = file: { _file = file; config = lib.importJSON file; };
  importTOML = file: { _file = file; config = lib.importTOML file; };

  # ── Merging ─────────────────────────────────────────────────────────────────────────────────────────────────────

  mergeModules = prefix: modules:
    mergeModules' prefix modules
      (concatMap (m: map (config: { file = m._file; inherit config; }) (pushDownProperties m.config)) modules);

  # One level of the tree: options are merged here, sets of options a level below.
  mergeModules' = prefix: modules: configs:
    let
      declarations = builtins.zipAttrsWith (_: ds: ds) (map (m:
        if isAttrs m.options then mapAttrs (name: options: { inherit (m) _file; inherit options; pos = builtins.unsafeGetAttrPos name m.options; }) m.options
        else throw "An option declaration for `${lib.concatStringsSep "." prefix}' has type\n`${typeOf m.options}' rather than an attribute set.\nDid you mean to define this outside of `options'?\n"
      ) modules);

      sets = map (c:
        if isAttrs c.config then c
        else throw "In module `${c.file}', you're trying to define a value of type `${typeOf c.config}'\nrather than an attribute set for the option\n`${lib.concatStringsSep "." prefix}'!\n\nThis usually happens if `${lib.concatStringsSep "." prefix}' has option\ndefinitions inside that are not matched. Please check how to properly define\nthis option by e.g. referring to `man 5 configuration.nix'!\n"
      ) configs;
      definitions = builtins.zipAttrsWith (_: ds: ds) (map (c: mapAttrs (_: value: { inherit (c) file; inherit value; }) c.config) sets);
      below = name: concatMap (def: map (config: { inherit (def) file; inherit config; }) (pushDownProperties def.value)) (definitions.${name} or [ ]);

      results = mapAttrs (name: decls:
        let
          loc = prefix ++ [ name ];
          optionDecls = filter (d: d.options ? _type && (d.options._type == "option" || throwNoOption loc d)) decls;
          asOption = d: if isOption d.options then d else d // {
            options = mkOption { type = types.submoduleWith { modules = [ { options = d.options; } ]; shorthandOnlyDefinesConfig = null; }; };
          };
          evaluated = ds: {
            matchedOptions = evalOptionValue loc (fixupOptionType loc (mergeOptionDecls loc ds)) (definitions.${name} or [ ]);
            unmatchedDefns = [ ];
          };
        in
          if optionDecls == [ ] then mergeModules' loc decls (below name)
          else if length optionDecls == length decls then evaluated decls
          else if all (d: d.options.type.name or null == "submodule") optionDecls then evaluated (map asOption decls)
          else throw "The option `${showOption loc}' in module `${(head optionDecls)._file}' would be a parent of the following options, but its type `${(head optionDecls).options.type.description or "<no description>"}' does not support nested options.\n${showNested loc (filter (d: !isOption d.options) decls)}"
      ) declarations;

      matchedOptions = mapAttrs (_: r: r.matchedOptions) results;
      unmatched = mapAttrs (_: r: r.unmatchedDefns) results // removeAttrs definitions (attrNames declarations);
    in {
      inherit matchedOptions;
      unmatchedDefns =
        if configs == [ ] then [ ]
        else concatLists (lib.mapAttrsToList (name: map (def: def // { prefix = [ name ] ++ def.prefix or [ ]; })) unmatched);
    };

  showNested = loc: decls:
    lib.concatStringsSep "\n" (sort (a: b: a < b) (concatMap (d: map (name: " - option(s) with prefix `${showOption (loc ++ [ name ])}' in module `${d._file}'") (attrNames d.options)) decls));
  throwNoOption = loc: d:
    throw ("In module ${d._file}: expected an option declaration at option path `${showOption loc}` but got an attribute set with type ${d.options._type}"
      + lib.optionalString (d.options._type == "option-type") "\n\nWhen declaring an option, you must wrap the type in a `mkOption` call. It should look somewhat like:\n    ${lib.last loc} = lib.mkOption {\n      description = ...;\n      type = <the type you wrote for ${lib.last loc}>;\n      ...\n    };\n");

  # Several declarations of one option: their types must merge, and the rest must not be said twice.
  mergeOptionDecls = loc: foldl' (acc: d:
    let
      twice = name: d.options ? ${name} && acc ? ${name};
      already = throw "The option `${showOption loc}' in `${d._file}' is already declared in ${showFiles acc.declarations}.";
      type =
        if !twice "type" then { }
        else let merged = acc.type.typeMerge d.options.type.functor; in if merged == null then already else { type = merged; };
      sub = d.options.type.getSubModules or null;
    in
      if twice "default" || twice "example" || twice "description" || twice "apply" then already
      else d.options // acc // {
        declarations = acc.declarations ++ [ d._file ];
        declarationPositions = acc.declarationPositions ++ [ (if d.pos or null != null then d.pos else { file = d._file; line = null; column = null; }) ];
        options = (if sub == null then [ ] else map (setDefaultModuleLocation d._file) sub) ++ acc.options;
      } // type
  ) { inherit loc; declarations = [ ]; declarationPositions = [ ]; options = [ ]; };

  fixupOptionType = _: opt:
    if opt.type.getSubModules or null == null then opt // { type = opt.type or types.unspecified; }
    else opt // { type = opt.type.substSubModules opt.options; options = [ ]; };

  evalOptionValue = loc: opt: defs:
    let
      all' = lib.optional (opt ? default) { file = head opt.declarations; value = mkOptionDefault opt.default; } ++ defs;
      result =
        if opt.readOnly or false && length all' > 1
        then throw "The option `${showOption loc}' is read-only, but it's set multiple times. Definition values:${showDefs (map (def: def // { value = (mergeDefinitions loc opt.type [ def ]).mergedValue; }) all')}"
        else mergeDefinitions loc opt.type all';
      value = if opt ? apply then opt.apply result.mergedValue else result.mergedValue;
      said =
        if opt.type.deprecationMessage == null then opt
        else lib.warn "The type `types.${opt.type.name}' of option `${showOption loc}' defined in ${showFiles opt.declarations} is deprecated. ${opt.type.deprecationMessage}" opt;
    in said // {
      value = addErrorContext "while evaluating the option `${showOption loc}':" value;
      inherit (result) isDefined highestPrio;
      definitions = map (def: def.value) result.defsFinal;
      files = map (def: def.file) result.defsFinal;
      definitionsWithLocations = result.defsFinal;
      __toString = _: showOption loc;
    };

  # The definitions of one option as one value: conditions decided, priorities applied, in order, of the right type.
  mergeDefinitions = loc: type: defs: rec {
    plain = length defs == 1 && (let v = (head defs).value; in addErrorContext "while evaluating definitions from `${(head defs).file}':" (!(isAttrs v && v ? _type)));
    discharged = concatMap (def:
      map (value: if value._type or null == "definition" then value else { inherit (def) file; inherit value; })
        (addErrorContext "while evaluating definitions from `${def.file}':" (dischargeProperties def.value))) defs;
    strongest = filterOverrides' discharged;
    highestPrio = if plain then defaultPriority else strongest.highestPrio;
    defsFinal =
      if plain then defs
      else if any (def: tag def.value == "order") strongest.values then sortProperties strongest.values
      else strongest.values;
    isDefined = defsFinal != [ ];
    optionalValue = if isDefined then { value = mergedValue; } else { };
    mergedValue =
      # What a type is worth without definitions counts since nixpkgs 26.05.
      if !isDefined then
        type.emptyValue.value or (throw "The option `${showOption loc}' was accessed but has no value defined. Try setting the option.")
      else if type ? headError && type.headError loc defsFinal != null then
        throw "A definition for option `${showOption loc}' is not of type `${type.description}'. TypeError: ${type.headError loc defsFinal}"
      else if all (def: type.check def.value) defsFinal then type.merge loc defsFinal
      else
        let wrong = filter (def: !type.check def.value) defsFinal;
        in throw "A definition for option `${showOption loc}' is not of type `${type.description}'. ${if type.headChecked or false then "TypeError: Definition values: " else "Definition values:"}${showDefs wrong}";
  };

  # ── Properties of definitions ───────────────────────────────────────────────────────────────────────────────────

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkImageMediaOverride = mkOverride 60;
  mkForce = mkOverride 50;
  mkVMOverride = mkOverride 10;
  mkOrder = priority: content: { _type = "order"; inherit priority content; };
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkDefinition = { file, value, ... }@args: args // { _type = "definition"; };
  mkAssert = assertion: message: mkIf (if assertion then true else throw "\nFailed assertion: ${message}");
  defaultOverridePriority = defaultPriority;
  defaultOrderPriority = defaultOrder;

  # Takes conditions and priorities of a set down to its attributes, so that a condition can look at the configuration.
  pushDownProperties = cfg:
    let down = f: map (c: if isAttrs c then mapAttrs (_: f) c else c) (pushDownProperties cfg.content);
    in
      if tag cfg == "merge" then concatMap pushDownProperties cfg.contents
      else if tag cfg == "if" then down (mkIf cfg.condition)
      else if tag cfg == "override" then down (mkOverride cfg.priority)
      else [ cfg ];
  dischargeProperties = def:
    if tag def == "merge" then concatMap dischargeProperties def.contents
    else if tag def == "if" then
      (if !builtins.isBool def.condition then throw "‘mkIf’ called with a non-Boolean condition"
       else if def.condition then dischargeProperties def.content
       else [ ])
    else [ def ];
  filterOverrides = defs: (filterOverrides' defs).values;
  filterOverrides' = defs:
    let
      prio = def: if tag def.value == "override" then def.value.priority else defaultPriority;
      highestPrio = foldl' (p: def: lib.min p (prio def)) 9999 defs;
    in {
      inherit highestPrio;
      values = map (def: if tag def.value == "override" then def // { value = def.value.content; } else def) (filter (def: prio def == highestPrio) defs);
    };
  sortProperties = defs:
    let strip = def: if tag def.value == "order" then def // { value = def.value.content; inherit (def.value) priority; } else def;
    in sort (a: b: a.priority or defaultOrder < b.priority or defaultOrder) (map strip defs);

  mkAliasDefinitions = mkAliasAndWrapDefinitions (x: x);
  mkAliasAndWrapDefinitions = wrap: option: mkIf option.isDefined (wrap (mkMerge option.definitions));
  mkAliasAndWrapDefsWithPriority = wrap: option:
    mkIf option.isDefined (wrap (mkMerge (map (mkOverride (option.highestPrio or defaultPriority)) option.definitions)));
  mkDerivedConfig = opt: f: mkOverride (opt.highestPrio or defaultPriority) (f opt.value);
  fixMergeModules = modules: args: evalModules { inherit modules args; check = false; };

  # ── Options that have gone ──────────────────────────────────────────────────────────────────────────────────────

  mkRemovedOptionModule = path: instead: { options, ... }: {
    options = lib.setAttrByPath path (mkOption {
      visible = false;
      apply = _: throw "The option `${showOption path}' can no longer be used since it's been removed. ${instead}";
    });
    config.assertions =
      let opt = lib.getAttrFromPath path options;
      in [ { assertion = !opt.isDefined; message = "The option definition `${showOption path}' in ${showFiles opt.files} no longer has any effect; please remove it.\n${instead}\n"; } ];
  };
  doRename = { from, to, visible, warn, use, withPriority ? true, condition ? true }: { config, options, ... }:
    let
      opt = lib.getAttrFromPath from options;
      type = (lib.attrByPath to { } options).type or null;
      alias = if withPriority then mkAliasAndWrapDefsWithPriority else mkAliasAndWrapDefinitions;
    in {
      options = lib.setAttrByPath from (mkOption ({
        inherit visible;
        description = "Alias of {option}`${showOption to}`.";
        apply = _: use (lib.attrByPath to (abort "Renaming error: option `${showOption to}' does not exist.") config);
      } // lib.optionalAttrs (type != null) { inherit type; }));
      config = mkIf condition (mkMerge [
        (lib.optionalAttrs (options ? warnings) {
          warnings = lib.optional (warn && opt.isDefined) "The option `${showOption from}' defined in ${showFiles opt.files} has been renamed to `${showOption to}'.";
        })
        (alias (lib.setAttrByPath to) opt)
      ]);
    };
  mkRenamedOptionModule = from: to: doRename {
    inherit from to;
    visible = false;
    warn = true;
    use = builtins.trace "Obsolete option `${showOption from}' is used. It was renamed to `${showOption to}'.";
  };
  mkRenamedOptionModuleWith = { from, to, sinceRelease }: mkRenamedOptionModule from to;
  mkAliasOptionModule = from: to: doRename { inherit from to; visible = true; warn = false; use = x: x; };
  mkAliasOptionModuleMD = mkAliasOptionModule;
}

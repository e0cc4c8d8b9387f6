# The options of units, kind by kind, and what a unit's file says.
{ lib, pkgs, config }:
let
  cfg = config.systemd;
  inherit (lib) mkOption types;
  names = mkOption { type = types.listOf types.str; default = [ ]; description = "Units, by name."; };
  lines = mkOption { type = types.lines; default = ""; description = "A shell script."; };
  flag = default: mkOption { type = types.bool; inherit default; description = "A flag."; };

  value = types.nullOr (types.oneOf [ types.bool types.int types.float types.str types.path types.package ]);
  # A line that may be said several times: lists add up, single values must agree.
  directive = types.either value (types.listOf value) // {
    description = "systemd option";
    headError = _: _: null;
    merge = loc: defs:
      if lib.any (def: builtins.isList def.value) defs
      then lib.concatMap (def: lib.toList def.value) defs
      else lib.options.mergeEqualOption loc defs;
  };
  section = mkOption { type = types.attrsOf directive; default = { }; description = "Lines of the unit's file."; };
  # What is asked for when deciding whether a unit has changed.
  triggers = mkOption { type = types.listOf types.unspecified; default = [ ]; description = "What the unit depends on besides its file."; };

  common = {
    enable = flag true;
    name = mkOption { type = types.str; internal = true; description = "The unit's full name."; };
    overrideStrategy = mkOption { type = types.enum [ "asDropinIfExists" "asDropin" ]; default = "asDropinIfExists"; description = "Whether the unit adds to one of the base system."; };
    description = mkOption { type = types.singleLineStr; default = ""; description = "The description."; };
    documentation = names;
    requires = names; wants = names; upholds = names; after = names; before = names; bindsTo = names; partOf = names;
    conflicts = names; requisite = names; onFailure = names; onSuccess = names;
    wantedBy = names; requiredBy = names; upheldBy = names; aliases = names;
    startLimitBurst = mkOption { type = types.int; description = "How many starts."; };
    startLimitIntervalSec = mkOption { type = types.int; description = "In how many seconds."; };
    unitConfig = section;
  };
  restartable = { restartTriggers = triggers; reloadTriggers = triggers; };

  # A file whose name changes with what it lists. It keeps nothing alive: what is listed is in the closure by other ways.
  triggerFile = kind: name: list: builtins.toFile "X-${kind}-Triggers-${lib.strings.sanitizeDerivationName name}"
    (builtins.unsafeDiscardStringContext (toString (map (x: if builtins.isPath x then "${x}" else x) (lib.flatten list))));

  unitSection = suffix: { config, options, name, ... }: {
    config = {
      name = lib.mkDefault "${name}${suffix}";
      unitConfig =
        lib.filterAttrs (_: v: v != "") {
          Requires = toString config.requires; Wants = toString config.wants; Upholds = toString config.upholds;
          After = toString config.after; Before = toString config.before; BindsTo = toString config.bindsTo;
          PartOf = toString config.partOf; Conflicts = toString config.conflicts; Requisite = toString config.requisite;
          Description = config.description; Documentation = toString config.documentation;
          OnFailure = toString config.onFailure; OnSuccess = toString config.onSuccess;
        }
        // lib.optionalAttrs (config.restartTriggers or [ ] != [ ]) { X-Restart-Triggers = triggerFile "Restart" name config.restartTriggers; }
        // lib.optionalAttrs (config.reloadTriggers or [ ] != [ ]) { X-Reload-Triggers = triggerFile "Reload" name config.reloadTriggers; }
        // lib.optionalAttrs options.startLimitBurst.isDefined { StartLimitBurst = toString config.startLimitBurst; }
        // lib.optionalAttrs options.startLimitIntervalSec.isDefined { StartLimitIntervalSec = toString config.startLimitIntervalSec; };
    };
  };

  jobScript = name: text:
    let script = lib.replaceStrings [ "\\" "@" ] [ "-" "_" ] name;
    in "${pkgs.writeTextFile { name = "unit-script-${script}"; destination = "/bin/${script}"; executable = true; text = "#!${pkgs.runtimeShell}\nset -e\n\n${text}\n"; }}/bin/${script}";

  service = defaultPath: { name, config, ... }: {
    options = common // restartable // {
      environment = mkOption { type = types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ])); default = { }; description = "The environment."; };
      path = mkOption { type = types.listOf (types.oneOf [ types.package types.str ]); default = [ ]; description = "What is in PATH."; };
      serviceConfig = section;
      confinement = mkOption { type = types.attrs; default = { }; description = "Taken."; };
      script = lines; preStart = lines; postStart = lines; reload = lines; preStop = lines; postStop = lines;
      scriptArgs = mkOption { type = types.str; default = ""; description = "The arguments of the script."; };
      enableStrictShellChecks = flag false;
      restartIfChanged = flag true; reloadIfChanged = flag false; stopIfChanged = flag true; notSocketActivated = flag false;
      startAt = mkOption { type = types.either types.str (types.listOf types.str); default = [ ]; apply = lib.toList; description = "When it is started."; };
    };
    config = {
      path = lib.mkAfter defaultPath;
      environment.PATH = lib.mkIf (config.path != [ ]) (lib.mkDefault (
        let packages = lib.unique (map toString config.path); in lib.makeBinPath packages + ":" + lib.makeSearchPath "sbin" packages));
      serviceConfig = lib.mkMerge (map ({ key, suffix, text, args ? "" }:
        lib.mkIf (text != "") { ${key} = let s = jobScript "${name}-${suffix}" text; in if args == "" then s else "${s} ${args}"; }
      ) [
        { key = "ExecStart"; suffix = "start"; text = config.script; args = config.scriptArgs; }
        { key = "ExecStartPre"; suffix = "pre-start"; text = config.preStart; }
        { key = "ExecStartPost"; suffix = "post-start"; text = config.postStart; }
        { key = "ExecReload"; suffix = "reload"; text = config.reload; }
        { key = "ExecStop"; suffix = "pre-stop"; text = config.preStop; }
        { key = "ExecStopPost"; suffix = "post-stop"; text = config.postStop; }
      ]);
    };
  };

  of = suffix: extra: types.attrsOf (types.submodule [ { options = common // extra; } (unitSection suffix) ]);

  show = v: if v == true then "true" else if v == false then "false" else toString v;
  textOf = attrs: lib.concatStrings (lib.concatLists (lib.mapAttrsToList (k: v: map (one: "${k}=${show one}\n") (lib.filter (x: x != null) (lib.toList v))) attrs));
  install = def: lib.optionalString (def.wantedBy != [ ]) "\n[Install]\nWantedBy=${toString def.wantedBy}\n";
  unit = def: body: {
    inherit (def) name enable aliases wantedBy requiredBy upheldBy overrideStrategy;
    text = "[Unit]\n${textOf def.unitConfig}\n${body}${install def}";
  };
  environmentLines = env: lib.concatStrings (lib.mapAttrsToList (k: v: lib.optionalString (v != null) "Environment=${builtins.toJSON "${k}=${v}"}\n") env);
in rec {
  types' = {
    services = defaultPath: types.attrsOf (types.submodule [ (service defaultPath) (unitSection ".service") ]);
    sockets = of ".socket" (restartable // { listenStreams = names; listenDatagrams = names; socketConfig = section; });
    timers = of ".timer" { timerConfig = section; };
    paths = of ".path" { pathConfig = section; };
    targets = of ".target" { };
    slices = of ".slice" { sliceConfig = section; };
    mounts = types.listOf (types.submodule [ {
      options = common // {
        what = mkOption { type = types.str; description = "What is mounted."; };
        where = mkOption { type = types.str; description = "Where it is mounted."; };
        type = mkOption { type = types.str; default = ""; description = "The type."; };
        options = mkOption { type = types.commas; default = ""; description = "The options."; };
        mountConfig = section;
      };
    } ({ config, ... }: { config.name = "${(import ../../lib/utils.nix { inherit lib; }).escapeSystemdPath config.where}.mount"; }) (unitSection "") ]);
  };

  # Declarations to units: a name, a text, and who wants them.
  render = {
    service = def: unit def ("[Service]\n" + environmentLines (cfg.globalEnvironment // def.environment)
      + (if def.reloadIfChanged then "X-ReloadIfChanged=true\n" else if !def.restartIfChanged then "X-RestartIfChanged=false\n" else "")
      + lib.optionalString (!def.stopIfChanged) "X-StopIfChanged=false\n"
      + lib.optionalString def.notSocketActivated "X-NotSocketActivated=true\n"
      + textOf def.serviceConfig);
    socket = def: unit def ("[Socket]\n" + textOf def.socketConfig + textOf { ListenStream = def.listenStreams; ListenDatagram = def.listenDatagrams; });
    timer = def: unit def ("[Timer]\n" + textOf def.timerConfig);
    path = def: unit def ("[Path]\n" + textOf def.pathConfig);
    target = def: unit def "" // { text = "[Unit]\n${textOf def.unitConfig}"; };
    slice = def: unit def ("[Slice]\n" + textOf def.sliceConfig);
    mount = def: unit def ("[Mount]\n" + textOf ({ What = def.what; Where = def.where; } // lib.optionalAttrs (def.type != "") { Type = def.type; } // lib.optionalAttrs (def.options != "") { Options = def.options; } // def.mountConfig));
  };
  inherit common textOf section directive;

  # Units as a folder, as systemd reads it. `upstream` units are the base system's, in `from`.
  folder = { name, units, upstream, from, extra ? "" }: pkgs.runCommand name { } ''
    mkdir -p $out
    cd $out
    for u in ${toString upstream}; do ln -s ${from}/$u $u; done
    ${lib.concatMapStrings (u: let n = lib.escapeShellArg u.name; dropin = u.overrideStrategy == "asDropin" || lib.elem u.name upstream; in
      if !u.enable then "ln -sfn /dev/null ${n}\n"
      else ''
        ${lib.optionalString dropin "mkdir -p ${n}.d\n"}cat > ${n}${lib.optionalString dropin ".d/overrides.conf"} <<'END-OF-UNIT'
        ${u.text}
        END-OF-UNIT
      ''
      + lib.concatMapStrings (alias: "ln -sfn ${n} ${lib.escapeShellArg alias}\n") u.aliases
      + lib.concatStrings (lib.mapAttrsToList (kind: lib.concatMapStrings (by: "mkdir -p ${lib.escapeShellArg by}.${kind}; ln -sfn ../${n} ${lib.escapeShellArg by}.${kind}/\n")) {
        wants = u.wantedBy; requires = u.requiredBy; upholds = u.upheldBy;
      })) units}
    ${extra}
  '';
}

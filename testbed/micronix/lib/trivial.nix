# Small functions on values of any type, the version, and warnings.
{ lib }:
let
  inherit (builtins) bitAnd bitOr bitXor;
  release = lib.strings.fileContents ../.version;
in rec {
  inherit (builtins)
    isBool isInt isFloat seq deepSeq lessThan add sub pathExists readFile genericClosure ceil floor
    addErrorContext unsafeGetAttrPos trace tryEval fromJSON toJSON toString toFile toXML hashString
    getContext hasContext placeholder parseDrvName fromTOML;
  inherit bitAnd bitOr bitXor;

  inherit release;
  codeName = "Bosco";
  # Newer than everything that configurations ask about with `versionAtLeast`.
  versionSuffix = ".20260601.micronix";
  version = release + versionSuffix;
  nixpkgsVersion = version;
  revisionWithDefault = default: default;
  oldestSupportedRelease = 2511;
  isInOldestRelease = oldestSupportedReleaseIsAtLeast;
  oldestSupportedReleaseIsAtLeast = asked: asked <= oldestSupportedRelease;

  id = x: x;
  const = x: _: x;
  flip = f: a: b: f b a;
  pipe = builtins.foldl' (x: f: f x);
  concat = x: y: x ++ y;
  "or" = x: y: x || y;
  and = x: y: x && y;
  xor = x: y: x != y;
  mul = x: y: x * y;
  div = x: y: x / y;
  mod = base: int: base - int * (base / int);
  bitNot = sub (-1);
  min = x: y: if x < y then x else y;
  max = x: y: if x > y then x else y;
  compare = a: b: if a < b then -1 else if a > b then 1 else 0;
  boolToString = b: if b then "true" else "false";
  boolToYesNo = b: if b then "yes" else "no";
  mergeAttrs = x: y: x // y;
  defaultTo = default: maybe: if maybe == null then default else maybe;
  mapNullable = f: a: if a == null then a else f a;
  inNixShell = builtins.getEnv "IN_NIX_SHELL" != "";
  inPureEvalMode = !builtins ? currentSystem;

  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  isFunction = f: builtins.isFunction f || (f ? __functor && isFunction (f.__functor f));
  functionArgs = f:
    if f ? __functor then f.__functionArgs or (functionArgs (f.__functor f)) else builtins.functionArgs f;
  setFunctionArgs = f: args: { __functor = _: f; __functionArgs = args; };
  mirrorFunctionArgs = f: let args = functionArgs f; in g: setFunctionArgs g args;
  toFunction = v: if isFunction v then v else _: v;

  # The same words, and the same switch to make them fatal, as the real ones.
  warn = msg: v:
    let
      fatal = builtins.getEnv "NIX_ABORT_ON_WARN";
      said = "evaluation warning: ${msg}";
    in
      if builtins.elem fatal [ "1" "true" "yes" ]
      then builtins.trace said (abort "NIX_ABORT_ON_WARN=true; warnings are treated as unrecoverable errors.")
      else (builtins.warn or (_: builtins.trace said)) msg v;
  warnIf = cond: msg: if cond then warn msg else x: x;
  warnIfNot = cond: warnIf (!cond);
  throwIf = cond: msg: if cond then throw msg else x: x;
  throwIfNot = cond: throwIf (!cond);
  info = msg: builtins.trace "INFO: ${msg}";
  showWarnings = warnings: v: lib.foldr warn v warnings;

  toBaseDigits = base: n:
    let go = i: if i < base then [ i ] else go (i / base) ++ [ (mod i base) ]; in go n;
  toHexString = n: lib.concatMapStrings (d: builtins.substring d 1 "0123456789ABCDEF") (toBaseDigits 16 n);
  fromHexString = s: (builtins.fromTOML "v=0x${s}").v;
}

# Strings.
{ lib }:
let
  inherit (builtins) concatStringsSep elemAt filter genList isString length replaceStrings split stringLength substring;
in rec {
  inherit (builtins)
    concatStringsSep replaceStrings stringLength substring isString split match unsafeDiscardStringContext typeOf
    fromJSON toJSON parseDrvName getContext appendContext hasContext compareVersions;

  join = concatStringsSep;
  concatStrings = concatStringsSep "";
  concatMapStrings = f: xs: concatStrings (map f xs);
  concatImapStrings = f: xs: concatStrings (lib.imap1 f xs);
  concatMapStringsSep = sep: f: xs: concatStringsSep sep (map f xs);
  concatImapStringsSep = sep: f: xs: concatStringsSep sep (lib.imap1 f xs);
  concatMapAttrsStringSep = sep: f: set: concatStringsSep sep (lib.mapAttrsToList f set);
  concatLines = concatMapStrings (s: s + "\n");
  intersperse = sep: xs: if length xs < 2 then xs else lib.init (lib.concatMap (x: [ x sep ]) xs);
  replaceString = from: to: replaceStrings [ from ] [ to ];
  optionalString = cond: s: if cond then s else "";

  hasPrefix = p: s: substring 0 (stringLength p) s == p;
  hasSuffix = p: s: let n = stringLength s; m = stringLength p; in n >= m && substring (n - m) n s == p;
  hasInfix = p: s: builtins.match ".*${escapeRegex p}.*" "${s}" != null;
  removePrefix = p: s: if hasPrefix p s then substring (stringLength p) (-1) s else s;
  removeSuffix = p: s: if hasSuffix p s then substring 0 (stringLength s - stringLength p) s else s;
  stringToCharacters = s: genList (i: substring i 1 s) (stringLength s);
  stringAsChars = f: s: concatMapStrings f (stringToCharacters s);
  trimWith = { start ? false, end ? false }: s:
    let
      m = builtins.match (if start && end then "[ \t\r\n]*(.*[^ \t\r\n])?[ \t\r\n]*" else if start then "[ \t\r\n]*(.*)" else "(.*[^ \t\r\n])?[ \t\r\n]*") s;
    in if !start && !end then s else lib.defaultTo "" (elemAt m 0);
  trim = trimWith { start = true; end = true; };

  escape = chars: replaceStrings chars (map (c: "\\" + c) chars);
  escapeShellArg = arg:
    let s = toString arg;
    in if builtins.match "[[:alnum:],._+:@%/-]+" s == null then "'${replaceStrings [ "'" ] [ "'\\''" ] s}'" else s;
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  escapeRegex = escape (stringToCharacters "\\[{()^$?*+|.");
  escapeXML = replaceStrings [ "\"" "'" "<" ">" "&" ] [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  escapeNixString = s: escape [ "$" ] (builtins.toJSON s);
  escapeNixIdentifier = s:
    if builtins.match "[a-zA-Z_][a-zA-Z0-9_'-]*" s != null && !builtins.elem s [ "assert" "else" "if" "in" "inherit" "let" "or" "rec" "then" "with" ]
    then s else escapeNixString s;
  isValidPosixName = name: builtins.match "[a-zA-Z_][a-zA-Z0-9_]*" name != null;
  toShellVar = name: value:
    lib.throwIfNot (isValidPosixName name) "toShellVar: ${name} is not a valid shell variable name" (
      if builtins.isList value then "declare -a ${name}=(${escapeShellArgs value})"
      else "${name}=${escapeShellArg value}");
  toShellVars = vars: concatStringsSep "\n" (lib.mapAttrsToList toShellVar vars);

  lowerChars = stringToCharacters "abcdefghijklmnopqrstuvwxyz";
  upperChars = stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  toLower = replaceStrings upperChars lowerChars;
  toUpper = replaceStrings lowerChars upperChars;
  toSentenceCase = s: toUpper (substring 0 1 s) + toLower (substring 1 (-1) s);

  addContextFrom = src: target: substring 0 0 src + target;
  splitString = sep: s: map (addContextFrom s) (filter isString (split (escapeRegex (toString sep)) (toString s)));
  splitStringBy = at: keep: s: splitString keep s;
  fileContents = file: removeSuffix "\n" (builtins.readFile file);
  makeSearchPath = sub: paths: concatStringsSep ":" (map (p: p + "/" + sub) (filter (x: x != null) paths));
  makeSearchPathOutput = output: sub: pkgs: makeSearchPath sub (map (lib.getOutput output) pkgs);
  makeLibraryPath = makeSearchPathOutput "lib" "lib";
  makeBinPath = makeSearchPathOutput "bin" "bin";
  fixedWidthString = width: fill: s:
    if stringLength s >= width then s else fixedWidthString width fill (fill + s);
  fixedWidthNumber = width: n: fixedWidthString width "0" (toString n);
  isStringLike = x: isString x || builtins.isPath x || x ? outPath || x ? __toString;
  isConvertibleWithToString = x:
    isStringLike x || x == null || builtins.isInt x || builtins.isFloat x || builtins.isBool x || (builtins.isList x && lib.all isConvertibleWithToString x);
  isStorePath = x:
    isStringLike x && (let s = toString x; in substring 0 1 s == "/" && (dirOf s == builtins.storeDir || builtins.match "/nix/store/[0-9a-z]{32}-[^/]+" s != null));
  isList = builtins.isList;
  versionOlder = a: b: builtins.compareVersions b a == 1;
  versionAtLeast = a: b: !versionOlder a b;
  getName = x: if isString x then (builtins.parseDrvName x).name else x.pname or (builtins.parseDrvName x.name).name;
  getVersion = x: if isString x then (builtins.parseDrvName x).version else x.version or (builtins.parseDrvName x.name).version;
  nameFromURL = url: sep: lib.head (splitString sep (lib.last (splitString "/" url)));
  toInt = s:
    if builtins.match "[ \t\n]*-?0[0-9]+[ \t\n]*" s != null then throw "toInt: Ambiguity in interpretation of ${escapeNixString s} between octal and zero padded integer."
    else intOf "toInt" s;
  toIntBase10 = intOf "toIntBase10";
  intOf = name: s:
    let m = builtins.match "[ \t\n]*(-?)0*([0-9]+)[ \t\n]*" s;
    in if m == null then throw "${name}: Could not convert ${escapeNixString s} to int." else builtins.fromJSON (elemAt m 0 + elemAt m 1);
  sanitizeDerivationName = s:
    let kept = concatStrings (map (p: if builtins.isList p then "-" else p) (split "[^[:alnum:]+._?=-]+" (builtins.unsafeDiscardStringContext (toString s))));
    in if kept == "" then "unknown" else removePrefix "." (substring 0 207 kept);
  toCamelCase = s:
    let parts = filter (x: isString x && x != "") (split "[-_ ]+" s);
    in concatStrings (lib.imap0 (i: p: if i == 0 then p else toUpper (substring 0 1 p) + substring 1 (-1) p) parts);
  enableFeature = on: name: "--${if on then "enable" else "disable"}-${name}";
  withFeature = on: name: "--${if on then "with" else "without"}-${name}";
  cmakeBool = name: on: "-D${name}:BOOL=${if on then "TRUE" else "FALSE"}";
  mesonOption = name: v: "-D${name}=${v}";
  commonPrefixLength = a: b:
    let n = lib.min (stringLength a) (stringLength b); go = i: if i >= n || substring i 1 a != substring i 1 b then i else go (i + 1); in go 0;

  # How many single-character edits lie between two names: for suggestions in error messages.
  levenshtein = a: b:
    let
      bs = stringToCharacters b;
      step = row: ca:
        lib.foldl' (acc: i:
          let
            cost = if elemAt bs i == ca then 0 else 1;
            best = lib.min (lib.min (elemAt row (i + 1) + 1) (lib.last acc + 1)) (elemAt row i + cost);
          in acc ++ [ best ]) [ (lib.head row + 1) ] (lib.range 0 (length bs - 1));
    in lib.last (lib.foldl' step (lib.range 0 (length bs)) (stringToCharacters a));
  levenshteinAtMost = k: a: b:
    let d = stringLength a - stringLength b; in (if d < 0 then -d else d) <= k && levenshtein a b <= k;
}

# What the library promises, as expressions and what they are worth. `wrong` lists those that are not: it must be empty.
# `errors` are expressions that must fail, with words that micronix_lib.rs knows.
#
# The expected values are nixpkgs' own: given another `lib`, the file holds that one to the same promises.
{ lib ? import ../lib }:
let
  inherit (lib) mkOption mkIf mkMerge mkForce mkDefault mkBefore mkAfter types;

  eval = modules: (lib.evalModules { inherit modules; }).config;
  # The value of one option of a type, from definitions.
  one = type: definitions: (eval ([ { options.x = mkOption { inherit type; }; } ] ++ map (x: { inherit x; }) definitions)).x;
  sub = options: types.submodule { inherit options; };
  int = mkOption { type = types.int; };

  cases = {
    # ── Definitions of one option ──
    "lists of later modules come first" = { expr = one (types.listOf types.int) [ [ 1 ] [ 2 ] ]; expected = [ 2 1 ]; };
    "order is by mkBefore and mkAfter" = { expr = one (types.listOf types.int) [ (mkAfter [ 3 ]) [ 2 ] (mkBefore [ 1 ]) ]; expected = [ 1 2 3 ]; };
    "the strongest priority wins" = { expr = one types.str [ (mkDefault "a") "b" (mkForce "c") ]; expected = "c"; };
    "mkDefault gives way" = { expr = one types.str [ (mkDefault "a") "b" ]; expected = "b"; };
    "a default gives way to mkDefault" = { expr = (eval [ { options.x = mkOption { type = types.str; default = "a"; }; } { x = mkDefault "b"; } ]).x; expected = "b"; };
    "equal definitions agree" = { expr = one types.str [ "a" "a" ]; expected = "a"; };
    "a false condition defines nothing" = { expr = (eval [ { options.x = mkOption { type = types.listOf types.int; default = [ 0 ]; }; } { x = mkIf false [ 1 ]; } ]).x; expected = [ 0 ]; };
    "mkMerge is several definitions" = { expr = one (types.listOf types.int) [ (mkMerge [ [ 1 ] (mkIf true [ 2 ]) (mkIf false [ 3 ]) ]) ]; expected = [ 1 2 ]; };
    "a condition may look at the configuration" = {
      expr = (eval [ { options = { a = mkOption { type = types.bool; default = true; }; b = mkOption { type = types.int; default = 0; }; }; } ({ config, ... }: { config = mkIf config.a { b = 1; }; }) ]).b;
      expected = 1;
    };
    "priorities go down into sets" = { expr = (eval [ { options.a.b = int; } { a = mkForce { b = 1; }; } { a.b = 2; } ]).a.b; expected = 1; };
    "apply is given the merged value" = { expr = (eval [ { options.x = mkOption { type = types.listOf types.int; apply = lib.length; }; } { x = [ 1 2 ]; } ]).x; expected = 2; };
    "mkAliasDefinitions forwards" = {
      expr = (eval [ { options = { a = int; b = int; }; } ({ options, ... }: { b = lib.mkAliasDefinitions options.a; }) { a = 3; } ]).b;
      expected = 3;
    };
    "a renamed option forwards" = { expr = (eval [ { options.b = int; } (lib.mkAliasOptionModule [ "a" ] [ "b" ]) { a = 4; } ]).b; expected = 4; };
    "highestPrio says how strong a definition was" = { expr = (lib.evalModules { modules = [ { options.x = int; } { x = mkForce 1; } ]; }).options.x.highestPrio; expected = 50; };
    "files say where definitions are" = { expr = (lib.evalModules { modules = [ { options.x = int; } { _file = "f"; x = 1; } ]; }).options.x.files; expected = [ "f" ]; };
    "isDefined says whether there are any" = { expr = (lib.evalModules { modules = [ { options.x = int; } ]; }).options.x.isDefined; expected = false; };

    # ── Types ──
    "lines are joined" = { expr = one types.lines [ "a" "b" ]; expected = "b\na"; };
    "commas are joined" = { expr = one types.commas [ "b" "a" ]; expected = "a,b"; };
    "attrsOf merges by name" = { expr = one (types.attrsOf (types.listOf types.int)) [ { a = [ 1 ]; } { a = [ 2 ]; b = [ 3 ]; } ]; expected = { a = [ 2 1 ]; b = [ 3 ]; }; };
    "attrsOf leaves out what is not defined" = { expr = one (types.attrsOf types.int) [ { a = mkIf false 1; b = 2; } ]; expected = { b = 2; }; };
    "lazyAttrsOf keeps the names" = { expr = builtins.attrNames (one (types.lazyAttrsOf types.int) [ { a = mkIf false 1; b = 2; } ]); expected = [ "a" "b" ]; };
    "nullOr takes null" = { expr = one (types.nullOr types.int) [ null ]; expected = null; };
    "nullOr takes the other" = { expr = one (types.nullOr types.int) [ 1 ]; expected = 1; };
    "either takes both" = { expr = [ (one (types.either types.int types.str) [ 1 ]) (one (types.either types.int types.str) [ "a" ]) ]; expected = [ 1 "a" ]; };
    "oneOf takes each" = { expr = one (types.oneOf [ types.int types.bool (types.listOf types.str) ]) [ [ "a" ] ]; expected = [ "a" ]; };
    "coercedTo converts" = { expr = one (types.coercedTo types.int toString types.str) [ 1 ]; expected = "1"; };
    "anything merges sets deeply" = { expr = one types.anything [ { a.b = 1; } { a.c = [ 2 ]; } ]; expected = { a = { b = 1; c = [ 2 ]; }; }; };
    "attrs merge shallowly" = { expr = one types.attrs [ { a.b = 1; } { a.c = 2; } ]; expected = { a.b = 1; }; };
    "functionTo merges results" = { expr = (one (types.functionTo (types.listOf types.int)) [ (x: [ x ]) (x: [ (x + 1) ]) ]) 1; expected = [ 2 1 ]; };
    "uniq takes one definition" = { expr = one (types.uniq (types.listOf types.int)) [ [ 1 ] ]; expected = [ 1 ]; };
    "singleLineStr drops the newline" = { expr = one types.singleLineStr [ "a\n" ]; expected = "a"; };
    "enum takes its values" = { expr = one (types.enum [ "a" "b" ]) [ "b" ]; expected = "b"; };
    "two declarations of an enum add up" = { expr = (eval [ { options.x = mkOption { type = types.enum [ "a" ]; }; } { options.x = mkOption { type = types.enum [ "b" ]; }; } { x = "b"; } ]).x; expected = "b"; };
    "unspecified merges lists" = { expr = one types.unspecified [ [ 1 ] [ 2 ] ]; expected = [ 2 1 ]; };
    "package takes a derivation" = { expr = (one types.package [ (derivation { name = "d"; system = "x"; builder = "/b"; }) ]).name; expected = "d"; };
    "an empty list is a list's value" = { expr = one (types.listOf types.int) [ (mkIf false [ 1 ]) ]; expected = [ ]; };
    "types describe themselves" = {
      expr = map (t: t.description) [
        (types.listOf (types.nullOr types.str)) (types.attrsOf types.int) types.port (types.enum [ "a" 1 ]) (types.either types.int types.str)
        (types.nullOr (types.enum [ "a" "b" ])) (types.nullOr types.ints.positive) types.path (types.submodule { }) types.package (types.nonEmptyListOf types.str)
        (types.coercedTo types.int toString types.str) (types.strMatching "a+") types.lines (types.functionTo types.str) types.number
      ];
      expected = [
        "list of (null or string)" "attribute set of signed integer" "16 bit unsigned integer; between 0 and 65535 (both inclusive)" "one of \"a\", 1" "signed integer or string"
        "null or one of \"a\", \"b\"" "null or (positive integer, meaning >0)" "absolute path" "submodule" "package" "non-empty (list of string)"
        "string or signed integer convertible to it" "string matching the pattern a+" "strings concatenated with \"\\n\"" "function that evaluates to a(n) string" "signed integer or floating point number"
      ];
    };

    # ── Submodules ──
    "a submodule has defaults" = { expr = one (sub { a = mkOption { type = types.int; default = 1; }; b = int; }) [ { b = 2; } ]; expected = { a = 1; b = 2; }; };
    "a submodule knows its name" = { expr = one (types.attrsOf (types.submodule ({ name, ... }: { options.n = mkOption { type = types.str; default = name; }; }))) [ { q = { }; } ]; expected = { q.n = "q"; }; };
    "a submodule's definitions merge" = { expr = one (sub { a = int; b = int; }) [ { a = 1; } { b = 2; } ]; expected = { a = 1; b = 2; }; };
    "a submodule may be a function" = { expr = one (sub { a = int; b = int; }) [ ({ config, ... }: { a = 1; b = config.a + 1; }) ]; expected = { a = 1; b = 2; }; };
    "a second declaration adds options" = {
      expr = (eval [ { options.x = mkOption { type = sub { a = int; }; }; } { options.x = mkOption { type = sub { b = int; }; }; } { x = { a = 1; b = 2; }; } ]).x;
      expected = { a = 1; b = 2; };
    };
    "freeform takes the rest" = {
      expr = one (types.submodule { freeformType = types.attrsOf types.int; options.a = mkOption { type = types.str; default = "d"; }; }) [ { b = 1; } ];
      expected = { a = "d"; b = 1; };
    };
    "a deferred module is a module" = {
      expr = (eval [ { options.m = mkOption { type = types.deferredModule; }; options.r = mkOption { type = types.raw; }; } { m.a = 1; } { m.b = 2; } ({ config, ... }: { r = eval [ { options = { a = int; b = int; }; } config.m ]; }) ]).r;
      expected = { a = 1; b = 2; };
    };

    # ── Modules ──
    "imports are modules" = { expr = (eval [ { imports = [ { options.x = int; } { x = 1; } ]; } ]).x; expected = 1; };
    "a module imported twice by its key counts once" = {
      expr = (eval [ { options.x = mkOption { type = types.listOf types.int; }; } { key = "k"; x = [ 1 ]; } { key = "k"; x = [ 1 ]; } ]).x;
      expected = [ 1 ];
    };
    "a disabled module does not count" = {
      expr = (eval [ { options.x = mkOption { type = types.listOf types.int; default = [ ]; }; } { key = "k"; x = [ 1 ]; } { disabledModules = [ { key = "k"; } ]; } ]).x;
      expected = [ ];
    };
    "specialArgs are there for imports" = {
      expr = (lib.evalModules { specialArgs.m = { options.x = int; config.x = 5; }; modules = [ ({ m, ... }: { imports = [ m ]; }) ]; }).config.x;
      expected = 5;
    };
    "_module.args are arguments" = { expr = (eval [ { options.x = int; } { _module.args.y = 6; } ({ y, ... }: { x = y; }) ]).x; expected = 6; };
    "an unchecked evaluation takes unknown options" = { expr = eval [ { options.x = int; } { x = 1; y = 2; _module.check = false; } ]; expected = { x = 1; }; };
    "extendModules adds modules" = { expr = ((lib.evalModules { modules = [ { options.x = int; } { x = mkDefault 1; } ]; }).extendModules { modules = [ { x = 2; } ]; }).config.x; expected = 2; };
    "a configuration's type is a submodule" = {
      expr = (eval [ { options.x = mkOption { inherit ((lib.evalModules { modules = [ { options.a = int; } ]; })) type; }; } { x.a = 1; } ]).x;
      expected = { a = 1; };
    };

    # ── Functions ──
    "attrsets" = {
      expr = [
        (lib.attrByPath [ "a" "b" ] 0 { a.b = 1; }) (lib.filterAttrs (_: v: v > 1) { a = 1; b = 2; }) (lib.mapAttrs' (n: v: lib.nameValuePair "${n}x" v) { a = 1; })
        (lib.recursiveUpdate { a.b = 1; a.c = 2; } { a.b = 3; }) (lib.genAttrs [ "a" "b" ] (n: n + n)) (lib.mapAttrsToList (n: v: "${n}${toString v}") { a = 1; b = 2; })
        (lib.optionalAttrs false { a = 1; }) (lib.foldlAttrs (acc: n: v: acc + v) 0 { a = 1; b = 2; }) (lib.collect builtins.isInt { a = 1; b.c = 2; })
        (lib.hasAttrByPath [ "a" "b" ] { a.b = 1; }) (lib.setAttrByPath [ "a" "b" ] 1) (lib.zipAttrsWith (_: lib.length) [ { a = 1; } { a = 2; b = 3; } ])
        (lib.concatMapAttrs (n: v: { ${n + v} = v; }) { a = "b"; }) (lib.cartesianProduct { a = [ 1 2 ]; b = [ 3 ]; }) (lib.mapAttrsRecursive (p: v: lib.concatStringsSep "." p) { a.b = 1; })
      ];
      expected = [
        1 { b = 2; } { ax = 1; } { a = { b = 3; c = 2; }; } { a = "aa"; b = "bb"; } [ "a1" "b2" ] { } 3 [ 1 2 ] true { a.b = 1; } { a = 2; b = 1; }
        { ab = "b"; } [ { a = 1; b = 3; } { a = 2; b = 3; } ] { a.b = "a.b"; }
      ];
    };
    "lists" = {
      expr = [
        (lib.flatten [ 1 [ 2 [ 3 ] ] ]) (lib.unique [ 1 2 1 ]) (lib.range 1 3) (lib.imap0 (i: x: i + x) [ 1 1 ]) (lib.last [ 1 2 ]) (lib.init [ 1 2 ])
        (lib.take 2 [ 1 2 3 ]) (lib.drop 2 [ 1 2 3 ]) (lib.foldr (a: b: "${a}${b}") "" [ "a" "b" ]) (lib.findFirst (x: x > 1) 0 [ 1 2 3 ]) (lib.optionals true [ 1 ])
        (lib.subtractLists [ 1 ] [ 1 2 ]) (lib.intersectLists [ 1 2 ] [ 2 3 ]) (lib.reverseList [ 1 2 ]) (lib.sortOn (x: -x) [ 1 3 2 ]) (lib.naturalSort [ "a10" "a9" ])
        (lib.toposort (a: b: a < b) [ 3 1 2 ]).result (lib.remove 1 [ 1 2 1 ]) (lib.count (x: x == 1) [ 1 2 1 ]) (lib.zipLists [ 1 ] [ 2 ]) (lib.partition (x: x > 1) [ 1 2 ])
      ];
      expected = [
        [ 1 2 3 ] [ 1 2 ] [ 1 2 3 ] [ 1 2 ] 2 [ 1 ] [ 1 2 ] [ 3 ] "ab" 2 [ 1 ] [ 2 ] [ 2 ] [ 2 1 ] [ 3 2 1 ] [ "a9" "a10" ] [ 1 2 3 ] [ 2 ] 2 [ { fst = 1; snd = 2; } ]
        { right = [ 2 ]; wrong = [ 1 ]; }
      ];
    };
    "strings" = {
      expr = [
        (lib.hasPrefix "a" "ab") (lib.hasSuffix "b" "ab") (lib.hasInfix "." "a.b") (lib.hasInfix "." "ab") (lib.removePrefix "a" "ab") (lib.removeSuffix "b" "ab") (lib.splitString "." "a.b.c")
        (lib.toUpper "aB") (lib.escapeShellArg "it's") (lib.escapeShellArgs [ "a" "b c" ]) (lib.concatMapStringsSep "," toString [ 1 2 ]) (lib.optionalString false "a")
        (lib.concatLines [ "a" "b" ]) (lib.fixedWidthString 3 "0" "1") (lib.versionAtLeast "1.10" "1.9") (lib.versionOlder "1.10" "1.9") (lib.toIntBase10 "07") (lib.trim " a ")
        (lib.strings.sanitizeDerivationName "a b/c") (lib.makeBinPath [ "/a" "/b" ]) (lib.strings.escapeNixIdentifier "a.b") (lib.stringToCharacters "ab") (lib.getName "hello-1.0")
        (lib.replaceStrings [ "a" ] [ "b" ] "aa") (lib.escape [ "$" ] "a$") (lib.strings.levenshtein "kitten" "sitting") (lib.toShellVar "A" "b c") (lib.boolToString true)
      ];
      expected = [
        true true true false "b" "a" [ "a" "b" "c" ] "AB" "'it'\\''s'" "a 'b c'" "1,2" "" "a\nb\n" "001" true false 7 "a" "a-b-c" "/a/bin:/b/bin" "\"a.b\"" [ "a" "b" ] "hello" "bb" "a\\$" 3 "A='b c'" "true"
      ];
    };
    "generators" = {
      expr = [
        (lib.generators.toINI { } { a = { b = 1; c = true; }; }) (lib.generators.toKeyValue { } { a = 1; b = "x"; }) (lib.generators.toJSON { } { a = 1; })
        (lib.generators.toPretty { } { a = [ 1 "x" null ]; b = { }; c = x: x; "d e" = "l\nm"; f = { a, b ? 1 }: a; })
      ];
      expected = [
        "[a]\nb=1\nc=true\n" "a=1\nb=x\n" "{\"a\":1}"
        "{\n  a = [\n    1\n    \"x\"\n    null\n  ];\n  b = { };\n  c = <function>;\n  \"d e\" = ''\n    l\n    m'';\n  f = <function, args: {a, b?}>;\n}"
      ];
    };
    "fixed points and functions" = {
      expr = [
        (lib.fix (self: { a = 1; b = self.a + 1; })) (lib.fix (lib.extends (final: prev: { a = prev.a + 1; }) (_: { a = 1; }))) (lib.pipe 1 [ (x: x + 1) (x: x * 2) ])
        (lib.functionArgs ({ a, b ? 1 }: a)) ((lib.makeOverridable ({ a }: { inherit a; }) { a = 1; }).override { a = 2; }).a (lib.textClosureList { a = lib.stringAfter [ "b" ] "A"; b = lib.noDepEntry "B"; } [ "a" "b" ])
        (lib.callPackageWith { x = 1; } ({ x, y }: { inherit x y; }) { y = 2; }).y
      ];
      expected = [ { a = 1; b = 2; } { a = 2; } 4 { a = false; b = true; } 2 [ "B" "A" ] 2 ];
    };
  };
in {
  count = builtins.length (builtins.attrNames cases);
  wrong = lib.concatMap (name: let c = cases.${name}; in lib.optional (c.expr != c.expected) { inherit name; inherit (c) expected; found = c.expr; }) (builtins.attrNames cases);

  errors = {
    undeclared = eval [ { options.name = int; } { _file = "f.nix"; nmae = 1; } ];
    undeclared-below = eval [ { options.a = { enable = int; other = int; }; } { _file = "f.nix"; a.enabel = true; } ];
    nothing-declared = eval [ { _file = "f.nix"; x = 1; } ];
    wrong-type = one types.int [ "a" ];
    wrong-list = one (types.listOf types.int) [ 1 ];
    wrong-element = one (types.listOf types.int) [ [ 1 "a" ] ];
    wrong-either = one (types.either types.int types.bool) [ "a" ];
    wrong-long = one types.int [ { a = 1; b = 2; c = 3; d = 4; e = 5; f = 6; } ];
    conflict = one types.str [ "a" "b" ];
    not-unique = one (types.uniq types.str) [ "a" "a" ];
    null-and-not = one (types.nullOr types.int) [ null 1 ];
    undefined = (eval [ { options.a.x = int; } ]).a.x;
    read-only = (eval [ { options.x = mkOption { type = types.int; default = 1; readOnly = true; }; } { x = 2; } ]).x;
    declared-twice = eval [ { options.x = int // { description = "a"; }; } { options.x = int // { description = "b"; }; } ];
    below-an-option = (eval [ { options.x = int; } { options.x.y = int; } ]).x;
    not-a-set = (eval [ { options.a.b = int; } { _file = "f.nix"; a = 1; } ]).a.b;
    mixed-module = eval [ { options.x = int; y = 1; } ];
    missing-argument = (eval [ { options.x = int; } ({ nope, ... }: { x = nope; }) ]).x;
    recursion = (eval [ ({ config, ... }: { imports = lib.optional config.x { }; options.x = mkOption { type = types.bool; }; }) ]).x;
    removed = (eval [ { options.assertions = mkOption { type = types.listOf types.unspecified; }; } (lib.mkRemovedOptionModule [ "x" ] "Use y.") ({ config, ... }: { x = 1; }) ]).x;
    failed-assertions = lib.asserts.checkAssertWarn [ { assertion = false; message = "one"; } { assertion = true; message = "no"; } { assertion = false; message = "two"; } ] [ ] 1;
    condition = one types.int [ (mkIf 1 2) ];
  };
}

# Tracing.
{ lib }:
rec {
  inherit (builtins) trace addErrorContext unsafeGetAttrPos;
  traceIf = pred: msg: x: if pred then builtins.trace msg x else x;
  traceValFn = f: x: builtins.trace (f x) x;
  traceVal = traceValFn (x: x);
  traceSeq = x: y: builtins.trace (builtins.deepSeq x x) y;
  traceValSeq = x: traceSeq x x;
  runTests = tests: lib.concatLists (lib.mapAttrsToList (name: t: lib.optional (t.expr != t.expected) { inherit name; inherit (t) expected; result = t.expr; }) tests);
}

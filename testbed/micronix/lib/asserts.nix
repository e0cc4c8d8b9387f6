# Conditions that end an evaluation.
{ lib }:
rec {
  assertMsg = pred: msg: pred || builtins.throw msg;
  assertOneOf = name: val: xs:
    assertMsg (builtins.elem val xs) "${name} must be one of ${lib.generators.toPretty { } xs}, but is: ${lib.generators.toPretty { } val}";
  checkAssertWarn = assertions: warnings: value:
    let failed = map (x: x.message) (builtins.filter (x: !x.assertion) assertions);
    in
      if failed != [ ] then throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (x: "- ${x}") failed}"
      else lib.showWarnings warnings value;
}

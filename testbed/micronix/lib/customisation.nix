# Packages that can be overridden.
{ lib }:
rec {
  makeOverridable = f: lib.mirrorFunctionArgs f (args:
    let
      result = f args;
      override = change: makeOverridable f (args // (if lib.isFunction change then change args else change));
    in
      if builtins.isAttrs result then result // { inherit override; } // lib.optionalAttrs (result ? overrideAttrs) {
        overrideAttrs = change: makeOverridable (a: (f a).overrideAttrs change) args;
      }
      else if lib.isFunction result then { __functor = _: result; inherit override; }
      else result);
  callPackageWith = auto: fn: args:
    let
      f = if lib.isFunction fn then fn else import fn;
      wanted = lib.functionArgs f;
      given = builtins.intersectAttrs wanted auto // args;
      missing = builtins.filter (name: !wanted.${name} && !given ? ${name}) (builtins.attrNames wanted);
    in
      if missing == [ ] then makeOverridable f given
      else throw "Function called without required argument \"${builtins.head missing}\"";
  callPackagesWith = auto: fn: args: let f = if lib.isFunction fn then fn else import fn; in f (builtins.intersectAttrs (lib.functionArgs f) auto // args);
  makeScope = newScope: f:
    let
      self = f self // {
        newScope = scope: newScope (self // scope);
        callPackage = self.newScope { };
        overrideScope = g: makeScope newScope (lib.extends g f);
        packages = f;
      };
    in self;
  extendDerivation = condition: extra: drv: drv // extra // { outPath = assert condition; drv.outPath; drvPath = assert condition; drv.drvPath; };
  hydraJob = drv: drv;
}

# Values that refer to themselves, and overlays on them.
{ lib }:
rec {
  fix = f: let x = f x; in x;
  fix' = f: let x = f x // { __unfix__ = f; }; in x;
  converge = f: x: let next = f x; in if next == x then x else converge f next;
  extends = overlay: base: final: let prev = base final; in prev // overlay final prev;
  composeExtensions = f: g: final: prev: let first = f final prev; in first // g final (prev // first);
  composeManyExtensions = lib.foldr composeExtensions (_: _: { });
  makeExtensibleWithCustomName = name: rattrs:
    fix' (self: rattrs self // { ${name} = overlay: makeExtensibleWithCustomName name (extends overlay rattrs); });
  makeExtensible = makeExtensibleWithCustomName "extend";
  toExtension = f: if lib.isFunction f then (final: prev: let given = f prev; in if lib.isFunction given then f final prev else given) else _: _: f;
}

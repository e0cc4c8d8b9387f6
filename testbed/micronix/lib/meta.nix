# What a package says about itself.
{ lib }:
rec {
  addMetaAttrs = new: drv: drv // { meta = (drv.meta or { }) // new; };
  setPrio = priority: addMetaAttrs { inherit priority; };
  lowPrio = setPrio 10;
  hiPrio = setPrio (-10);
  getExe' = x: y:
    assert lib.assertMsg (builtins.isString y && !lib.hasInfix "/" y) "lib.meta.getExe': The second argument \"${y}\" is a nested path with a \"/\" character, but it should just be the name of the executable instead.";
    "${lib.getBin x}/bin/${y}";
  getExe = x: getExe' x (x.meta.mainProgram or (lib.getName x));
}

# Attribute sets.
{ lib }:
let
  inherit (builtins) attrNames attrValues concatLists elem filter foldl' getAttr hasAttr head isAttrs length listToAttrs map mapAttrs tail;
in rec {
  inherit (builtins) attrNames attrValues listToAttrs hasAttr getAttr isAttrs intersectAttrs removeAttrs mapAttrs catAttrs zipAttrsWith;

  nameValuePair = name: value: { inherit name value; };
  attrByPath = path: default: set:
    if path == [ ] then set
    else if isAttrs set && set ? ${head path} then attrByPath (tail path) default set.${head path}
    else default;
  hasAttrByPath = path: set:
    path == [ ] || (isAttrs set && set ? ${head path} && hasAttrByPath (tail path) set.${head path});
  getAttrFromPath = path: set: attrByPath path (throw "cannot find attribute `${showAttrPath path}'") set;
  setAttrByPath = path: value: if path == [ ] then value else { ${head path} = setAttrByPath (tail path) value; };
  showAttrPath = path:
    if path == [ ] then "<root attribute path>" else lib.concatMapStringsSep "." lib.strings.escapeNixIdentifier path;
  attrVals = names: set: map (name: set.${name}) names;
  getAttrs = names: set: genAttrs names (name: set.${name});
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  genAttrs' = xs: f: listToAttrs (map f xs);
  filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  filterAttrsRecursive = keep: set:
    mapAttrs (_: v: if isAttrs v then filterAttrsRecursive keep v else v) (filterAttrs keep set);
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  mapAttrsToList = f: set: attrValues (mapAttrs f set);
  attrsToList = mapAttrsToList nameValuePair;
  concatMapAttrs = f: set: mergeAttrsList (mapAttrsToList f set);
  mergeAttrsList = foldl' (all: one: all // one) { };
  foldlAttrs = f: start: set: foldl' (acc: name: f acc name set.${name}) start (attrNames set);
  foldAttrs = op: start: sets:
    lib.foldr (set: acc: foldlAttrs (a: name: v: a // { ${name} = op v (a.${name} or start); }) acc set) { } sets;
  mapAttrsRecursive = mapAttrsRecursiveCond (_: true);
  mapAttrsRecursiveCond = descend: f:
    let go = path: mapAttrs (name: v: let here = path ++ [ name ]; in if isAttrs v && descend v then go here v else f here v);
    in go [ ];
  mapAttrsToListRecursiveCond = descend: f: set:
    let go = path: s: concatLists (mapAttrsToList (name: v: let here = path ++ [ name ]; in if isAttrs v && descend here v then go here v else [ (f here v) ]) s);
    in go [ ] set;
  mapAttrsToListRecursive = mapAttrsToListRecursiveCond (_: _: true);
  collect = pred: set:
    if pred set then [ set ] else if isAttrs set then lib.concatMap (collect pred) (attrValues set) else [ ];
  optionalAttrs = cond: set: if cond then set else { };
  zipAttrs = builtins.zipAttrsWith (_: vs: vs);
  zipAttrsWithNames = names: f: sets: genAttrs names (name: f name (builtins.catAttrs name sets));
  recursiveUpdateUntil = stop: old: new:
    let
      merge = path: a: b: a // mapAttrs (name: v:
        let here = path ++ [ name ];
        in if a ? ${name} && !stop here a.${name} v then merge here a.${name} v else v) b;
    in merge [ ] old new;
  recursiveUpdate = old: new:
    if isAttrs old && isAttrs new
    then old // mapAttrs (name: v: if old ? ${name} && isAttrs v && isAttrs old.${name} then recursiveUpdate old.${name} v else v) new
    else new;
  matchAttrs = pattern: set:
    isAttrs pattern && lib.all (name:
      set ? ${name} && (if isAttrs pattern.${name} then isAttrs set.${name} && matchAttrs pattern.${name} set.${name} else pattern.${name} == set.${name})
    ) (attrNames pattern);
  overrideExisting = old: new: mapAttrs (name: v: new.${name} or v) old;
  cartesianProduct = set:
    foldl' (acc: name: lib.concatMap (one: map (v: one // { ${name} = v; }) set.${name}) acc) [ { } ] (attrNames set);
  mapCartesianProduct = f: set: map f (cartesianProduct set);
  updateManyAttrsByPath = updates: set:
    foldl' (acc: u: recursiveUpdate acc (setAttrByPath u.path (u.update (attrByPath u.path null acc)))) set updates;
  unionOfDisjoint = x: y:
    x // y // mapAttrs (name: _: throw "unionOfDisjoint: collision on ${name}") (builtins.intersectAttrs x y);

  isDerivation = v: v.type or null == "derivation";
  toDerivation = path:
    let path' = builtins.storePath path;
    in { type = "derivation"; name = lib.strings.sanitizeDerivationName (builtins.substring 33 (-1) (baseNameOf path')); outPath = path'; outputs = [ "out" ]; out = { outPath = path'; }; outputName = "out"; };
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };
  dontRecurseIntoAttrs = set: set // { recurseForDerivations = false; };
  getOutput = output: pkg: if !pkg ? outputSpecified || !pkg.outputSpecified then pkg.${output} or pkg.out or pkg else pkg;
  getFirstOutput = outputs: pkg: let found = filter (o: pkg ? ${o}) outputs; in if found == [ ] then pkg else pkg.${head found};
  getBin = getOutput "bin";
  getLib = getOutput "lib";
  getDev = getOutput "dev";
  getMan = getOutput "man";
  chooseDevOutputs = map getDev;
}

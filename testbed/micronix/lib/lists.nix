# Lists.
{ lib }:
let
  inherit (builtins) elemAt genList head length tail;
in rec {
  inherit (builtins) map filter all any concatMap concatLists elem elemAt foldl' genList head isList length partition sort tail groupBy;

  singleton = x: [ x ];
  forEach = xs: f: map f xs;
  toList = x: if builtins.isList x then x else [ x ];
  foldr = op: start: xs:
    let n = length xs; go = i: if i == n then start else op (elemAt xs i) (go (i + 1)); in go 0;
  fold = foldr;
  foldl = op: start: xs: let go = i: if i == -1 then start else op (go (i - 1)) (elemAt xs i); in go (length xs - 1);
  imap0 = f: xs: genList (i: f i (elemAt xs i)) (length xs);
  imap1 = f: xs: genList (i: f (i + 1) (elemAt xs i)) (length xs);
  ifilter0 = keep: xs: map (x: x.v) (builtins.filter (x: keep x.i x.v) (imap0 (i: v: { inherit i v; }) xs));
  flatten = x: if builtins.isList x then builtins.concatMap flatten x else [ x ];
  remove = x: builtins.filter (y: y != x);
  optional = cond: x: if cond then [ x ] else [ ];
  optionals = cond: xs: if cond then xs else [ ];
  count = pred: xs: length (builtins.filter pred xs);
  findFirstIndex = pred: default: xs:
    let n = length xs; go = i: if i == n then default else if pred (elemAt xs i) then i else go (i + 1); in go 0;
  findFirst = pred: default: xs: let i = findFirstIndex pred null xs; in if i == null then default else elemAt xs i;
  findSingle = pred: default: multiple: xs:
    let found = builtins.filter pred xs;
    in if found == [ ] then default else if length found > 1 then multiple else head found;
  range = first: last: if first > last then [ ] else genList (i: first + i) (last - first + 1);
  replicate = n: x: genList (_: x) n;
  reverseList = xs: let n = length xs; in genList (i: elemAt xs (n - 1 - i)) n;
  zipListsWith = f: a: b: genList (i: f (elemAt a i) (elemAt b i)) (lib.min (length a) (length b));
  zipLists = zipListsWith (fst: snd: { inherit fst snd; });
  take = n: sublist 0 n;
  takeEnd = n: xs: drop (lib.max 0 (length xs - n)) xs;
  drop = n: xs: sublist n (length xs) xs;
  dropEnd = n: xs: take (lib.max 0 (length xs - n)) xs;
  sublist = start: n: xs:
    let have = length xs; in genList (i: elemAt xs (start + i)) (if start >= have then 0 else if start + n > have then have - start else n);
  last = xs: if xs == [ ] then throw "lists.last: list must not be empty!" else elemAt xs (length xs - 1);
  init = xs: if xs == [ ] then throw "lists.init: list must not be empty!" else take (length xs - 1) xs;
  unique = builtins.foldl' (acc: x: if builtins.elem x acc then acc else acc ++ [ x ]) [ ];
  uniqueStrings = xs: builtins.attrNames (builtins.groupBy (x: x) xs);
  allUnique = xs: length (unique xs) == length xs;
  intersectLists = a: builtins.filter (x: builtins.elem x a);
  subtractLists = a: builtins.filter (x: !(builtins.elem x a));
  mutuallyExclusive = a: b: !(builtins.any (x: builtins.elem x b) a);
  groupBy' = op: start: pred: xs: builtins.mapAttrs (_: builtins.foldl' op start) (builtins.groupBy pred xs);
  sortOn = f: xs: map (x: x.v) (builtins.sort (a: b: a.k < b.k) (map (v: { inherit v; k = f v; }) xs));
  compareLists = cmp: a: b:
    if a == [ ] then (if b == [ ] then 0 else -1)
    else if b == [ ] then 1
    else let c = cmp (head a) (head b); in if c == 0 then compareLists cmp (tail a) (tail b) else c;
  naturalSort = xs:
    let
      key = s: map (p: if builtins.isList p then lib.toIntBase10 (head p) else p) (builtins.split "([0-9]+)" s);
      cmp = a: b: if builtins.typeOf a == builtins.typeOf b then lib.compare a b else if builtins.isInt a then -1 else 1;
    in map (x: x.v) (builtins.sort (a: b: compareLists cmp a.k b.k < 0) (map (v: { inherit v; k = key v; }) xs));
  hasPrefix = p: xs: take (length p) xs == p;
  removePrefix = p: xs: if hasPrefix p xs then drop (length p) xs else throw "lists.removePrefix: First argument is not a list prefix of the second argument";
  concatAttrValues = set: builtins.concatLists (builtins.attrValues set);
  replaceElemAt = xs: at: v: imap0 (i: x: if i == at then v else x) xs;
  crossLists = f: builtins.foldl' (fs: args: builtins.concatMap (g: map g args) fs) [ f ];
  # Orders a set of nodes so that `before a b` holds for no later a and earlier b.
  toposort = before: xs:
    let
      go = rest: done:
        if rest == [ ] then { result = done; }
        else
          let free = builtins.filter (x: !(builtins.any (y: y != x && before y x) rest)) rest;
          in if free == [ ] then { cycle = rest; loops = [ ]; } else go (builtins.filter (x: x != head free) rest) (done ++ [ (head free) ]);
    in go xs [ ];
}

# What an expression of the operator's gives, or one in a file, with the fleet in scope. A function gets the same as its argument.
{
  text ? null,
  file ? null,
}:
source:
let
  inherit (source.scope) nodes lib pkgs;
  scope = {
    inherit nodes lib pkgs;
  };
  # A text becomes a file of its own, for Nix to say where in it a mistake is. What lies beside a file is where it is.
  place = if file == null then builtins.toFile "expression.nix" text else /. + file;
  value = builtins.scopedImport scope place;
in
if builtins.isFunction value || builtins.isAttrs value && value ? __functor then value scope else value

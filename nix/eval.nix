# What an expression of the operator's gives, with the fleet in scope. A function gets the same as its argument.
expression: source:
let
  inherit (source.scope) nodes lib pkgs;
  scope = {
    inherit nodes lib pkgs;
  };
  # A file of its own, for Nix to say where in it a mistake is.
  value = builtins.scopedImport scope (builtins.toFile "expression.nix" expression);
in
if builtins.isFunction value || builtins.isAttrs value && value ? __functor then value scope else value

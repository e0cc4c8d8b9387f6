# Text snippets that name the snippets that go before them.
{ lib }:
rec {
  noDepEntry = text: { inherit text; deps = [ ]; };
  fullDepEntry = text: deps: { inherit text deps; };
  packEntry = deps: { inherit deps; text = ""; };
  stringAfter = deps: text: { inherit text deps; };

  textClosureList = entries: names:
    let
      visit = state: name:
        if state.done ? ${name} then state
        else
          let
            entry = if builtins.isString entries.${name} then noDepEntry entries.${name} else entries.${name};
            before = builtins.foldl' visit { out = state.out; done = state.done // { ${name} = true; }; } entry.deps;
          in before // { out = before.out ++ [ entry.text ]; };
    in (builtins.foldl' visit { out = [ ]; done = { }; } names).out;
  textClosureMap = f: entries: names: lib.concatStringsSep "\n" (map f (textClosureList entries names));
}

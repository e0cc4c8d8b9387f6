# Builders of files, scripts and trees of links.
{ final, lib }:
let
  inherit (final.stdenv) mkDerivation;
  runScript = name: env: buildCommand: mkDerivation ({ inherit name buildCommand; passAsFile = [ "buildCommand" ] ++ env.passAsFile or [ ]; } // removeAttrs env [ "passAsFile" "name" ]);
  settingsType = lib.types.attrsOf lib.types.json;
in rec {
  runCommand = runScript;
  runCommandLocal = runScript;
  runCommandCC = runScript;
  runCommandWith = { name, derivationArgs ? { }, ... }: runScript name derivationArgs;

  writeTextFile = { name, text, executable ? false, destination ? "", meta ? { }, checkPhase ? "", derivationArgs ? { }, ... }:
    mkDerivation ({
      inherit name text meta;
      passAsFile = [ "text" "buildCommand" ];
      buildCommand = ''
        target=$out${destination}
        mkdir -p "$(dirname "$target")"
        cat "$textPath" > "$target"
        ${lib.optionalString executable "chmod +x \"$target\""}
      '';
    } // derivationArgs);
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir = path: text: writeTextFile { name = baseNameOf path; inherit text; destination = "/${path}"; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; meta.mainProgram = name; };
  writeShellScript = name: text: writeScript name "#!${final.runtimeShell}\n${text}";
  writeShellScriptBin = name: text: writeScriptBin name "#!${final.runtimeShell}\n${text}";
  writeShellApplication = { name, text, runtimeInputs ? [ ], runtimeEnv ? { }, ... }: writeShellScriptBin name ''
    set -o errexit
    set -o nounset
    set -o pipefail
    ${lib.concatLines (lib.mapAttrsToList (k: v: "export ${lib.toShellVar k v}") runtimeEnv)}
    ${lib.optionalString (runtimeInputs != [ ]) "export PATH=\"${lib.makeBinPath runtimeInputs}:$PATH\""}
    ${text}
  '';
  writeJSON = name: value: writeText name (builtins.toJSON value);
  concatText = name: files: runScript name { } "cat ${toString files} > $out";
  writeReferencesToFile = path: writeText "references" "${path}";

  # One tree of links to the files of several.
  buildEnv = { name, paths, pathsToLink ? [ "/" ], postBuild ? "", ignoreCollisions ? true, ... }: let
    priority = path: path.meta.priority or 5;
    # Where two have a file, it is that of the lower number; of two with the same, of the first.
    ordered = lib.sort (a: b: priority a < priority b) paths;
  in runScript name { } ''
    mkdir -p $out
    link() { # link FROM TO: a link, or a folder where both sides have one
      if [ -d "$1" ] && { [ -d "$2" ] || [ -L "$2" ]; }; then
        if [ -L "$2" ]; then
          local had; had=$(readlink "$2"); rm "$2"; mkdir "$2"
          for one in "$had"/*; do [ -e "$one" ] || [ -L "$one" ] || continue; link "$one" "$2/''${one##*/}"; done
        fi
        for one in "$1"/*; do [ -e "$one" ] || [ -L "$one" ] || continue; link "$one" "$2/''${one##*/}"; done
      elif [ -e "$2" ] || [ -L "$2" ]; then :
      else ln -s "$1" "$2"; fi
    }
    for from in ${toString (lib.unique (map toString ordered))}; do
      [ -d "$from" ] || continue
      for one in "$from"/*; do
        at=/''${one##*/}
        case " ${toString pathsToLink} " in *" / "*|*" $at "*|*" $at/"*) [ -e "$one" ] && link "$one" "$out$at" ;; esac
      done
    done
    ${postBuild}
  '';
  symlinkJoin = { name ? "${pname}-${version}", pname ? "", version ? "", paths, postBuild ? "", ... }: buildEnv { inherit name paths postBuild; };
  linkFarm = name: entries:
    let list = if builtins.isAttrs entries then lib.mapAttrsToList (name: path: { inherit name path; }) entries else entries;
    in runScript name { } ''
      mkdir -p $out
      ${lib.concatMapStrings (e: "mkdir -p \"$out/$(dirname ${lib.escapeShellArg e.name})\"; ln -s ${e.path} $out/${lib.escapeShellArg e.name}\n") list}
    '';
  linkFarmFromDrvs = name: drvs: linkFarm name (map (drv: { inherit (drv) name; path = drv; }) drvs);
  emptyDirectory = runScript "empty-directory" { } "mkdir $out";
  emptyFile = runScript "empty-file" { } "touch $out";
  closureInfo = { rootPaths }: runScript "closure-info" { } "mkdir $out; echo ${toString rootPaths} > $out/store-paths";
  mkShell = given: mkDerivation ({ name = "shell"; buildCommand = "touch $out"; } // removeAttrs given [ "packages" "shellHook" "inputsFrom" ]);
  mkShellNoCC = mkShell;

  formats = {
    json = _: { type = lib.types.json; generate = writeJSON; };
    yaml = _: { type = lib.types.json; generate = writeJSON; };
    ini = opts: { type = lib.types.attrsOf settingsType; generate = name: v: writeText name (lib.generators.toINI opts v); };
    keyValue = opts: { type = settingsType; generate = name: v: writeText name (lib.generators.toKeyValue opts v); };
  };
}

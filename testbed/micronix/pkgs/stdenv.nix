# How things are built: busybox runs a script in Nix's sandbox.
{ final, lib, system }:
let
  # The one program that comes from outside: the materialised tree has it beside these files.
  busybox-bin = builtins.path { name = "busybox-bin"; path = ../blobs/busybox; };

  # busybox under the names of all its applets.
  busybox = finish { pname = "busybox"; version = "1"; meta.mainProgram = "busybox"; } (derivation {
    name = "busybox-1";
    inherit system;
    builder = "${busybox-bin}/bin/busybox";
    args = [ "sh" "-ec" ''
      b=${busybox-bin}/bin/busybox
      $b mkdir -p $out/bin
      for applet in $($b --list); do $b ln -s $b $out/bin/$applet; done
      [ -e $out/bin/busybox ] || $b ln -s $b $out/bin/busybox
    '' ];
  });

  # What a derivation shows besides what Nix gives it.
  finish = shown: drv: drv // shown // {
    inherit (drv) outPath drvPath name;
    meta = shown.meta or { };
    override = _: finish shown drv;
    out = drv.out or drv;
  };

  setup = builtins.toFile "setup.sh" ''
    set -e
    set -o pipefail
    export PATH=$initialPath
    for input in $nativeBuildInputs $buildInputs; do PATH="$input/bin:$PATH"; done
    export TMPDIR=''${TMPDIR:-/build} HOME=/homeless-shelter
    runHook() { :; }
    die() { echo "$*" >&2; exit 1; }
    # As nixpkgs' setup does it, on files only.
    substituteInPlace() {
      local file=$1; shift
      while [ $# -gt 0 ]; do
        case $1 in
          --replace|--replace-fail|--replace-warn|--replace-quiet) sub "$file" "$2" "$3"; shift 3 ;;
          --subst-var-by) sub "$file" "@$2@" "$3"; shift 3 ;;
          --subst-var) eval "sub \"$file\" \"@$2@\" \"\$$2\""; shift 2 ;;
          *) die "substituteInPlace: what is $1?" ;;
        esac
      done
    }
    sub() { FROM=$2 TO=$3 awk 'BEGIN { f = ENVIRON["FROM"]; t = ENVIRON["TO"] } { o = ""; s = $0; while ((i = index(s, f)) > 0) { o = o substr(s, 1, i - 1) t; s = substr(s, i + length(f)) } print o s }' "$1" > "$1.sub"; cat "$1.sub" > "$1"; rm "$1.sub"; }
    if [ -n "$buildCommandPath" ]; then . "$buildCommandPath"; exit; fi
    if [ -n "$buildCommand" ]; then eval "$buildCommand"; exit; fi
    if [ -n "$src" ] && [ -z "$dontUnpack" ]; then
      if [ -d "$src" ]; then cp -r "$src" source; chmod -R u+w source; cd source
      else case $src in *.tar*|*.tgz) tar xf "$src"; cd "$(ls -d */ | head -1)" ;; *) cp "$src" . ;; esac; fi
    fi
    for phase in patchPhase configurePhase buildPhase checkPhase installPhase fixupPhase; do
      eval "body=\$$phase"
      [ -z "$body" ] || eval "$body"
    done
  '';

  mkDerivation = given:
    let
      attrs = if lib.isFunction given then lib.fix given else given;
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      env = attrs.env or { };
      plain = lib.filterAttrs (_: v: v != null) (removeAttrs attrs [ "meta" "passthru" "env" "preferLocalBuild" "allowSubstitutes" ]);
      drv = derivation ({
        builder = "${busybox-bin}/bin/busybox";
        args = [ "sh" setup ];
        initialPath = "${busybox}/bin";
        preferLocalBuild = true;
        allowSubstitutes = false;
      } // plain // env // { inherit name system; });
    in finish (attrs.passthru or { } // {
      meta = attrs.meta or { };
      pname = attrs.pname or (lib.getName name);
      version = attrs.version or (lib.getVersion name);
      inherit (attrs) passthru;
      overrideAttrs = change: mkDerivation (attrs // (
        let f = if lib.isFunction change then change else _: change;
            one = f attrs;
        in if lib.isFunction one then f (attrs // one attrs) attrs else one));
    } // lib.optionalAttrs (!attrs ? passthru) { passthru = { }; }) drv;

  platform = lib.systems.elaborate system;
in {
  inherit busybox busybox-bin;
  stdenv = {
    inherit mkDerivation;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    isLinux = platform.isLinux;
    isDarwin = platform.isDarwin;
    shell = final.runtimeShell;
    cc = { };
  };
  stdenvNoCC = final.stdenv;
}

# An activation, in its own unit: the steps in their order until one fails, with their exit codes in a file.
# Which steps, and what the codes mean, is decided elsewhere.
set -u
toplevel=$1 run=$2 roots=$3 results=$4
shift 4
exec >"$run/activation.log" 2>&1 </dev/null
: >"$results" || exit 1
cd / || exit 1

step() {
  case $1 in
  set-profile)
    # Neither Nix nor its daemon syncs what it writes: without this, a power cut can leave the profile pointing at
    # paths whose files are empty.
    mkdir -p "$roots" && ln -sfn "$toplevel" "$roots/candidate" && sync &&
      nix-env --profile /nix/var/nix/profiles/system --set "$toplevel" && sync
    ;;
  boot) "$toplevel/bin/switch-to-configuration" boot && sync ;;
  *) "$toplevel/bin/switch-to-configuration" "$1" ;;
  esac
}

for name; do
  step "$name"
  code=$?
  echo "$name $code" >>"$results"
  # 100: it runs after the next boot only, which the steps that follow bring about.
  [ "$code" = 0 ] || [ "$name $code" = 'test 100' ] || exit 0
  # The default is the candidate now: it is none any more.
  [ "$name" != boot ] || rm -f "$roots/candidate"
done

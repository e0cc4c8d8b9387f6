# The host's side of a push. It answers what the host is before anything is asked, and ends with the connection.
# The variables `toplevel`, `limit` and `activation` stand before it.
roots=/nix/var/nix/gcroots/bosco
run=/run/bosco
results=$run/results.$$

# What only a boot can bring in, of the system $2. A container has none of it.
kernel() {
  for part in kernel initrd kernel-modules; do
    [ ! -e "$2/$part" ] || fact "$1" "$(readlink -f "$2/$part")"
  done
}

# Whether an activation is under way. No answer from systemd, while it starts anew, is none.
activating() {
  case $(systemctl is-active bosco-activation.service 2>/dev/null) in
  inactive | failed | unknown) return 1 ;;
  esac
}

survey() {
  fact system "$(uname -m)-linux"
  if [ -e /etc/NIXOS ] || grep -qs '^ID="*nixos"*$' /etc/os-release; then fact nixos yes; fi
  if command -v nix-store >/dev/null; then fact nix yes; fi
  fact booted "$(readlink -f /run/booted-system)"
  current=$(readlink -f /run/current-system)
  fact current "$current"
  fact profile "$(readlink -f /nix/var/nix/profiles/system)"
  fact candidate "$(readlink "$roots/candidate")"
  fact pushed "$(readlink "$roots/pushed")"
  if command -v systemctl >/dev/null && activating; then fact activating yes; fi
  # What runs is kept, and what is not there needs no question.
  if [ "$current" = "$toplevel" ] || { [ -e "$toplevel" ] && nix-store --check-validity "$toplevel" 2>/dev/null; }; then
    fact has-toplevel yes
  fi
  kernel booted-kernel /run/booted-system
  kernel current-kernel /run/current-system
  fact free "$(df -kP /nix/store 2>/dev/null | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1/p')"
  finish 0
}

generations() {
  present=$(readlink /nix/var/nix/profiles/system)
  present=${present#system-}
  fact present "${present%-link}"
  for link in /nix/var/nix/profiles/system-*-link; do
    [ -L "$link" ] || continue
    number=${link#/nix/var/nix/profiles/system-}
    fact generation "${number%-link} $(stat -c %Y "$link") $(readlink "$link") $(cat "$link/nixos-version" 2>/dev/null)"
  done
  finish 0
}

root() { mkdir -p "$roots" && ln -sfn "$toplevel" "$roots/$1"; }

# From here on the toplevel is kept, there or not yet.
missing() { root pushed && head -n "$1" | xargs nix-store --check-validity --print-invalid; }

# What its own caches have of $2 paths, it fetches from there, in at most $1 seconds; then as above.
substitute() {
  paths=$(head -n "$2")
  printf '%s\n' "$paths" | timeout -k 10 "$1" xargs nix-store --realise --ignore-unknown --keep-going --option connect-timeout 5 \
    --option stalled-download-timeout 30 --option download-attempts 2 >/dev/null 2>&1
  printf '%s\n' "$paths" | missing "$2"
}

# Takes paths, in Nix's serve protocol. The end is a command that it does not know: it ends with an error then, having
# read nothing that is not its own. What counts is how many bytes it answered.
import() {
  said=$(nix-store --serve --write | wc -c)
  [ "$said" -eq "$1" ]
}

# In a unit of its own, so that neither a network that restarts nor a session that ends can cut it short. The unit's
# name lets in one at a time.
activate() {
  mkdir -p "$run" && rm -f "$results" || return
  systemd-run --unit=bosco-activation --description='bosco: activation' --collect --wait --quiet \
    --service-type=exec --property=RuntimeMaxSec="$limit" --setenv=PATH="$PATH" --setenv=HOME=/root \
    /bin/sh -c "$activation" bosco-activation "$toplevel" "$run" "$roots" "$results" "$@" && return
  code=$?
  # Without results it has not begun: another one is under way, perhaps.
  [ -e "$results" ] || return "$code"
  # The wait ends early where the bus is restarted; the unit goes on, at most to its limit.
  left=$limit
  while activating && [ "$left" -gt 0 ]; do
    sleep 1
    left=$((left - 1))
  done
}

survey
while read -r verb arguments; do
  case $verb in
  survey) survey ;;
  generations) generations ;;
  missing) answer 's#^/nix/store/#path &#;t;s/^/log /' missing "$arguments" ;;
  substitute)
    # shellcheck disable=SC2086 # Two numbers.
    answer 's#^/nix/store/#path &#;t;s/^/log /' substitute $arguments
    ;;
  import)
    answer 's/^/log /' import "$arguments"
    # What a broken import has left unread must never be taken for a verb.
    [ "$code" = 0 ] || exit 1
    ;;
  activate)
    # shellcheck disable=SC2086 # Steps are words.
    answer 's/^/log /' activate $arguments
    ;;
  results)
    # Of the activation that ended just now.
    sed 's/^/result /' "$results" && rm -f "$results"
    tail -c 60000 "$run/activation.log" | sed 's/^/log /'
    finish 0
    ;;
  *)
    finish 127
    exit 1
    ;;
  esac
done

# The host's side of a push, in plain POSIX shell: nothing is needed there but Nix and sshd. It is read from the
# connection, answers in lines of `KEY VALUE`, ends each answer with `done CODE`, and ends with the connection.
# The variables `toplevel`, `limit` and `activation` stand before it.
set -u
umask 022
PATH=$PATH:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/bin:/bin:/usr/sbin:/sbin
export PATH

roots=/nix/var/nix/gcroots/bosco
run=/run/bosco
results=$run/results.$$

fact() { [ -z "$2" ] || printf '%s %s\n' "$1" "$2"; }

# What only a boot can bring in, of the system $2.
kernel() {
  for part in kernel initrd kernel-modules; do fact "$1" "$(readlink -f "$2/$part")"; done
}

survey() {
  fact system "$(uname -m)-linux"
  if [ -e /etc/NIXOS ] || grep -qs '^ID="*nixos"*$' /etc/os-release; then fact nixos yes; fi
  if command -v nix-store >/dev/null; then
    # It says its version only where it can write to its state: not on a full disk.
    version=$(nix-store --version 2>/dev/null)
    version=${version##* }
    fact nix "${version:-unknown}"
  fi
  fact booted "$(readlink -f /run/booted-system)"
  fact current "$(readlink -f /run/current-system)"
  fact profile "$(readlink -f /nix/var/nix/profiles/system)"
  fact candidate "$(readlink "$roots/candidate")"
  case $(systemctl is-active bosco-activation.service 2>/dev/null) in
  active | activating | deactivating | reloading) fact activating yes ;;
  esac
  if nix-store --check-validity "$toplevel" 2>/dev/null; then fact has-toplevel yes; fi
  kernel booted-kernel /run/booted-system
  kernel current-kernel /run/current-system
  fact free "$(df -kP /nix/store 2>/dev/null | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1/p')"
  fact done 0
}

# Runs a command, gives each line that it says a key by the sed script $1, and ends the answer with its exit code.
answer() {
  keys=$1
  shift
  exec 3>&1
  code=$({ { "$@" 2>&1 4>&-; echo "$?" >&4; } | sed "$keys" >&3; } 4>&1)
  fact done "$code"
}

missing() { head -n "$1" | xargs nix-store --check-validity --print-invalid; }

root() { mkdir -p "$roots" && ln -sfn "$2" "$roots/$1"; }

import() { root pushed "$toplevel" && nix-store --import >/dev/null; }

# In a unit of its own, so that neither a network that restarts nor a session that ends can cut it short. The unit's
# name lets in one at a time.
activate() {
  mkdir -p "$run" || return
  systemd-run --unit=bosco-activation --description='bosco: activation' --collect --wait --quiet \
    --service-type=exec --property=RuntimeMaxSec="$limit" --setenv=PATH="$PATH" --setenv=HOME=/root \
    /bin/sh -c "$activation" bosco-activation "$toplevel" "$run" "$roots" "$results" "$@" && return
  code=$?
  # Without results it has not begun: another one is under way, perhaps.
  [ -e "$results" ] || return "$code"
  # The wait ends early where the bus is restarted; the unit goes on.
  while systemctl is-active --quiet bosco-activation.service; do sleep 1; done
}

printf 'bosco 1\n'
survey
while read -r verb arguments; do
  case $verb in
  missing)
    answer 's#^/nix/store/#path &#;t;s/^/log /' missing "$arguments"
    ;;
  import)
    answer 's/^/log /' import
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
    tail -c 65536 "$run/activation.log" | sed 's/^/log /'
    fact done 0
    ;;
  *)
    fact done 127
    exit 1
    ;;
  esac
done

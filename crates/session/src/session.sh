# The host's side of a push. It answers what the host is before anything is asked, and ends with the connection.
# The variables `toplevel`, `helper`, `limit` and `mend` stand before it.
roots=/nix/var/nix/gcroots/bosco

# What only a boot can bring in, of the system $2. A container has none of it.
kernel() {
  for part in kernel initrd kernel-modules; do
    [ ! -e "$2/$part" ] || fact "$1" "$(readlink -f "$2/$part")"
  done
}

survey() {
  fact system "$(uname -m)-linux"
  if [ -e /etc/NIXOS ] || grep -qs '^ID="*nixos"*$' /etc/os-release; then fact nixos yes; fi
  if command -v nix-store >/dev/null; then fact nix yes; fi
  fact boot "$(cat /proc/sys/kernel/random/boot_id) $(sed 's/.*) //' /proc/1/stat | cut -d' ' -f20)"
  fact booted "$(readlink -f /run/booted-system)"
  current=$(readlink -f /run/current-system)
  profile=$(readlink -f /nix/var/nix/profiles/system)
  # A specialisation counts as the system that it is one of.
  for special in "$profile"/specialisation/* "$toplevel"/specialisation/*; do
    if [ -e "$special" ] && [ "$(readlink -f "$special")" = "$current" ]; then
      fact specialisation "${special##*/}"
      current=${special%/specialisation/*}
      break
    fi
  done
  fact current "$current"
  fact profile "$profile"
  fact pushed "$(readlink "$roots/pushed")"
  # What it remembers of its activations. A host that has never had one has no helper.
  if [ -x "$roots/helper/bin/bosco" ]; then timeout 10 "$roots/helper/bin/bosco" helper survey; fi
  # What runs is kept, and what is not there needs no question.
  if [ "$current" = "$toplevel" ] || { [ -e "$toplevel" ] && nix-store --check-validity "$toplevel" 2>/dev/null; }; then
    fact has-toplevel yes
  fi
  if [ -n "$helper" ] && [ -e "$helper" ] && nix-store --check-validity "$helper" 2>/dev/null; then
    fact has-helper yes
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

root() { mkdir -p "$roots" && ln -sfn "$1" "$roots/$2"; }

# From here on toplevel and helper are kept, there or not yet.
missing() {
  { [ -z "$toplevel" ] || root "$toplevel" pushed; } && { [ -z "$helper" ] || root "$helper" pushed-helper; } &&
    head -n "$1" | xargs nix-store --check-validity --print-invalid
}

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

# Mends the path $1 by its archive of $2 bytes: only one that Nix knows, and that nothing which runs needs.
repair() {
  known=$(nix-store --query --hash "$1") && running=$(nix-store --query --requisites /run/current-system) || return
  if printf '%s\n' "$running" | grep -qxF "$1"; then
    echo "what runs there needs it"
    return 1
  fi
  unshare --mount /bin/sh -c "$mend" mend "$1" "$2" "${known#sha256:}"
}

dry_activate() { timeout -k 10 "$limit" "$toplevel/bin/switch-to-configuration" dry-activate; }

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
  repair)
    answer 's/^/log /' repair "${arguments% *}" "${arguments#* }"
    [ "$code" = 0 ] || exit 1
    ;;
  activate)
    # It detaches the activation, follows it, and says what it has to in lines of its own.
    printf '%s\n' "$arguments" | "$helper/bin/bosco" helper activate
    finish "$?"
    ;;
  dry-activate) answer 's/^/log /' dry_activate ;;
  reboot) answer 's/^/log /' systemctl reboot ;;
  *)
    finish 127
    exit 1
    ;;
  esac
done

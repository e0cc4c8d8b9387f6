# The host's side of a push. It answers what the host is before anything is asked, and ends with the connection.
# The variables `toplevel`, `system`, `others`, `helper`, `limit` and `mend` stand before it. `others` are the profiles beside the
# system, a line of `USER NAME PLACE PATH` for each, where `-` is nothing; `system` is empty where they are all.
roots=/nix/var/nix/gcroots/bosco
profiles=/nix/var/nix/profiles
held=
other_paths=
[ -z "$others" ] || other_paths=$(printf '%s\n' "$others" | sed -n 's/.* \(\/[^ ]*\)$/\1/p')

# What only a boot can bring in, of the system $2. A container has none of it.
kernel() {
  for part in kernel initrd kernel-modules; do
    [ ! -e "$2/$part" ] || fact "$1" "$(readlink -f "$2/$part")"
  done
  [ ! -e "$2/kernel-params" ] || fact "$1" "$(first_line "$2/kernel-params")"
}

# Many hosts may be asked at once: what the shell can read by itself starts no program.
first_line() {
  line=
  [ ! -r "$1" ] || IFS= read -r line <"$1"
  printf '%s\n' "$line"
}

# The system $1 by the name that it has in its profile, or in what is asked for: deploy-rs has it in a wrapper.
called() {
  for wrapper in "$toplevel" "$profile"; do
    [ "$1" != "$toplevel" ] && [ -e "$wrapper/nixos-version" ] || continue
    file=$(readlink -f "$wrapper/nixos-version")
    [ "${file%/*}" != "$1" ] || { printf '%s\n' "$wrapper" && return; }
  done
  printf '%s\n' "$1"
}

# Where the profile $2 of the user $1 is, or $3 is its place: as deploy-rs and Nix have it.
place_of() {
  if [ "$3" != - ]; then
    printf '%s\n' "$3"
  elif [ "$1" = root ] || [ -d "$profiles/per-user/$1" ]; then
    printf '%s\n' "$profiles/per-user/$1/$2"
  else
    home=$(getent passwd "$1" | cut -d: -f6)
    [ -z "$home" ] || printf '%s\n' "$home/.local/state/nix/profiles/$2"
  fi
}

# Does $1 with the user, the name, the link and the path of each profile beside the system.
each_other() {
  [ -n "$others" ] || return 0
  printf '%s\n' "$others" | while read -r user name place path; do
    [ -z "$user" ] || "$1" "$user" "$name" "$(place_of "$user" "$name" "$place")" "$path" </dev/null || exit
  done
}

profile_at() { fact profile-at "$1 $2 $(readlink -f "$3")"; }

are_there() { [ -z "$other_paths" ] || printf '%s\n' "$other_paths" | xargs nix-store --check-validity 2>/dev/null; }

survey() {
  fact system "$(uname -m)-linux"
  if [ -e /etc/NIXOS ] || grep -qs '^ID="*nixos"*$' /etc/os-release; then fact nixos yes; fi
  if command -v nix-store >/dev/null; then fact nix yes; fi
  # When the first process started is the 20th field behind its name, which may hold anything.
  started=$(first_line /proc/1/stat)
  # shellcheck disable=SC2086 # Its fields.
  set -- ${started##*) }
  fact boot "$(first_line /proc/sys/kernel/random/boot_id) ${20-}"
  profile=$(readlink -f "$profiles/system")
  fact booted "$(called "$(readlink -f /run/booted-system)")"
  current=$(readlink -f /run/current-system)
  # A specialisation counts as the system that it is one of.
  for special in "$profile"/specialisation/* "$toplevel"/specialisation/*; do
    if [ -e "$special" ] && [ "$(readlink -f "$special")" = "$current" ]; then
      fact specialisation "${special##*/}"
      current=${special%/specialisation/*}
      break
    fi
  done
  current=$(called "$current")
  fact current "$current"
  fact profile "$profile"
  each_other profile_at
  fact pushed "$(readlink "$roots/pushed")"
  fact host-key "$(first_line /etc/ssh/ssh_host_ed25519_key.pub)"
  # What it remembers of its activations. A host that has never had one has no helper.
  if [ -x "$roots/helper/bin/bosco" ]; then timeout 10 "$roots/helper/bin/bosco" helper survey; fi
  # What runs is kept, and what is not there needs no question.
  if { [ "$current" = "$toplevel" ] || { [ -e "$toplevel" ] && nix-store --check-validity "$toplevel" 2>/dev/null; }; } &&
    are_there; then
    fact has-toplevel yes
  fi
  # What was activated by it, or is about to be, keeps it.
  if [ -n "$helper" ] && [ -e "$helper" ]; then
    # shellcheck disable=SC3013 # The shells that there are have it.
    if [ "$roots/helper" -ef "$helper" ]; then
      fact has-helper yes
      fact keeps-helper yes
    elif nix-store --check-validity "$helper" 2>/dev/null; then
      fact has-helper yes
    fi
  fi
  kernel booted-kernel /run/booted-system
  kernel current-kernel /run/current-system
  fact free "$(df -kP /nix/store 2>/dev/null | { read -r _ && read -r _ _ _ free _ && printf '%s\n' "$free"; })"
  finish 0
}

# The generations of the profile $2, with $1 behind each key.
generations_of() {
  present=$(readlink "$2")
  present=${present##*/}
  fact "present$1" "${present#"${2##*/}-"}" | sed 's/-link$//'
  for link in "$2"-*-link; do
    [ -L "$link" ] || continue
    number=${link#"$2-"}
    fact "generation$1" "${number%-link} $(stat -c %Y "$link") $(readlink "$link") $(cat "$link/nixos-version" 2>/dev/null)"
  done
}

generations_of_other() { generations_of "-of $1 $2" "$3"; }

generations() {
  generations_of '' "$profiles/system"
  each_other generations_of_other
  finish 0
}

root() { mkdir -p "$roots" && ln -sfn "$1" "$roots/$2"; }

# Opens what holds paths: 5 is open until this program ends, however it does, and 6 tells when they are held.
open_hold() {
  [ -z "$held" ] || return
  place=$(mktemp -d) || return
  if mkfifo "$place/hold" "$place/ready"; then
    exec 5<>"$place/hold" 6<>"$place/ready"
    held=/proc/$$/fd/5
  fi
  rm -rf "$place"
}

# In Nix's serve protocol: a greeting for its version 2.5, and the question which of the $1 paths in $paths are valid. Its
# lock keeps them, there or not yet, from being collected for as long as whoever was asked lives.
locking() {
  six='\000\000\000\000\000\000'
  count="\\$(printf %03o $(($1 % 256)))\\$(printf %03o $(($1 / 256)))$six"
  # shellcheck disable=SC2059 # They are formats. The lock is 1, the 0 forbids to substitute.
  printf "\353\235\014\071\000\000\000\000\005\002$six\001\000$six\001\000$six\000\000$six$count"
  # It writes 1 for 0, which not every awk can write.
  printf '%s\n' "$paths" | LC_ALL=C awk '{
    bytes = length($0)
    zeros = "\001\001\001\001\001\001\001"
    printf "%c%s%s%s", bytes, zeros, $0, substr(zeros, 1, (8 - bytes % 8) % 8)
  }' | tr '\001' '\000'
}

# Has a Nix hold the $1 paths in $paths, whose input stays open as long as this program: what is said to be there must not
# be collected before what needs it has come. They are held when the head of its answer is there. Where that can't be
# had, it is as it would be without.
hold() {
  open_hold
  [ -n "$held" ] || return
  { { locking "$1" && exec cat "$held"; } | nix-store --serve --write | { head -c 24 && echo >&6; exec cat 6>&-; }; } \
    5>&- </dev/null >/dev/null 2>&1 &
  timeout 60 head -n 1 <&6 >/dev/null
}

invalid() { xargs nix-store --check-validity --print-invalid; }

# From here on toplevel and helper are kept, there or not yet.
missing() {
  { [ -z "$toplevel" ] || root "$toplevel" pushed; } && { [ -z "$helper" ] || root "$helper" pushed-helper; } &&
    root_others && printf '%s\n' "$paths" | invalid
}

root_others() {
  rm -f "$roots"/pushed-profile-*
  number=0
  for path in $other_paths; do
    root "$path" "pushed-profile-$number" || return
    number=$((number + 1))
  done
}

# What its own caches have of $2 paths that were asked for before, it fetches from there, in at most $1 seconds; then as above.
substitute() {
  paths=$(head -n "$2")
  printf '%s\n' "$paths" | timeout -k 10 "$1" xargs nix-store --realise --ignore-unknown --keep-going --option connect-timeout 5 \
    --option stalled-download-timeout 30 --option download-attempts 2 >/dev/null 2>&1
  printf '%s\n' "$paths" | invalid
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

# Keeps a bundle of secrets of $2 bytes, with the digest $1: ciphertext.
secrets() { head -c "$2" | "$helper/bin/bosco" helper secrets keep "$1"; }

# Builds the derivation $1, which has come with all that it needs. Of what was said where it fails, the end is told.
build() {
  said=$({
    nix-store --realise "$1" 2>&1 >/dev/null
    echo "$?"
  } | tail -n 100)
  status=$(printf '%s\n' "$said" | tail -n 1)
  [ "$status" = 0 ] || printf '%s\n' "$said" | sed '$d'
  return "$status"
}

active() {
  systemctl list-units --state=active,activating --plain --no-legend --no-pager --full | cut -d' ' -f1
}

# All that is to be compared of the system that runs, for who does not have it: its closure, first all paths, then the bytes
# of each; its units' files, line by line; what starts with what; what only a boot brings in.
describe() {
  closure=$(nix-store --query --requisites "$current") || return
  printf '%s\n' "$closure" | sed 's/^/+path /'
  printf '%s\n' "$closure" | xargs nix-store --query --size | sed 's/^/+size /'
  for part in kernel initrd kernel-modules; do
    [ ! -e "$current/$part" ] || echo "+boot $part $(readlink -f "$current/$part")"
  done
  for part in kernel-params init-interface-version nixos-version; do
    [ ! -e "$current/$part" ] || echo "+boot $part $(head -c 4096 "$current/$part" | tr '\n' ' ')"
  done
  cd "$current/etc/systemd/system" || return
  set --
  # What lies elsewhere belongs to no system.
  for file in ./*.* ./*.d/*.conf; do
    [ ! -f "$file" ] || case $(readlink -f "$file") in /nix/store/*) set -- "$@" "$file" ;; esac
  done
  [ $# = 0 ] || awk '{ print "+unit " FILENAME " " $0 }' "$@"
  for file in ./*.wants/* ./*.requires/*; do
    [ ! -L "$file" ] || echo "+wants $file"
  done
}

# The same of the profile at $4, as its user $1 and by deploy-rs's contract.
dry_activate_other() {
  echo "profile $2 of $1:"
  home=$(getent passwd "$1" | cut -d: -f6)
  set -- "$1" "$4" timeout -k 10 "$limit" env -i PATH="$PATH" HOME="$home" USER="$1" LOGNAME="$1" \
    PROFILE="$4" DRY_ACTIVATE=1 BOOT=0 TEST=0 "$4/deploy-rs-activate"
  user=$1
  cd "$2" || return
  shift 2
  [ "$user" = root ] || set -- runuser -u "$user" -- "$@"
  "$@"
}

dry_activate() {
  [ -z "$system" ] || timeout -k 10 "$limit" "$system/bin/switch-to-configuration" dry-activate || return
  each_other dry_activate_other
}

survey
while read -r verb arguments; do
  case $verb in
  survey) survey ;;
  generations) generations ;;
  missing)
    paths=$(head -n "$arguments")
    # Not within the answer, whose end it would hold up: a shell keeps copies of what it redirects.
    hold "$arguments"
    answer 's#^/nix/store/#path &#;t;s/^/log /' missing
    ;;
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
  secrets)
    # shellcheck disable=SC2086 # A digest and a number.
    answer 's/^/log /' secrets $arguments
    [ "$code" = 0 ] || exit 1
    ;;
  activate)
    # It detaches the activation, follows it, and says what it has to in lines of its own.
    printf '%s\n' "$arguments" | "$helper/bin/bosco" helper activate
    finish "$?"
    ;;
  build) answer 's/^/log /' build "$arguments" ;;
  active) answer 's/^/active /' active ;;
  describe) answer 's/^+//;t
s/^/log /' describe ;;
  dry-activate) answer 's/^/log /' dry_activate ;;
  reboot) answer 's/^/log /' systemctl reboot ;;
  *)
    finish 127
    exit 1
    ;;
  esac
done

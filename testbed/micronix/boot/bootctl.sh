#!@shell@
# What there is of bootctl: to list entries, and to choose the one that boots, once or always. On a machine with EFI
# these are variables of the firmware; here they are files under /boot/loader.
set -e
PATH=@path@
loader=/boot/loader
# An emulated machine has the real one, and what it writes.
[ ! -e @linux@ ] || exec /usr/bin/bootctl "$@"

write() { # write FILE TEXT: whole or not at all, also where the power fails
  printf '%s\n' "$2" > "$1.tmp"
  sync "$1.tmp"
  mv -f "$1.tmp" "$1"
  sync "${1%/*}"
}
default() { sed -n 's/^default //p' $loader/loader.conf 2>/dev/null | head -1; }
known() { [ -e "$loader/entries/${1%.conf}.conf" ] || { echo "bootctl: no boot entry $1" >&2; exit 1; }; }

# Options that only name where things are change nothing here.
while [ $# -gt 0 ]; do case $1 in --esp-path=*|--boot-path=*|--no-pager|--quiet|-q) shift ;; *) break ;; esac; done
case $1 in
  list)
    chosen=$(default) once=$(cat $loader/oneshot 2>/dev/null || :)
    for file in $loader/entries/*.conf; do
      [ -e "$file" ] || continue
      id=${file##*/}
      mark=
      [ "$id" != "$chosen" ] || mark="$mark (default)"
      [ "$id" != "$once" ] || mark="$mark (oneshot)"
      echo "         type: Boot Loader Specification Type #1 (.conf)"
      echo "        title: $(sed -n 's/^title //p' "$file")$mark"
      echo "           id: $id"
      echo "       source: $file"
      echo "      options: $(sed -n 's/^options //p' "$file")"
      echo
    done
    ;;
  set-oneshot)
    if [ -z "$2" ]; then rm -f $loader/oneshot; sync $loader
    else known "$2"; write $loader/oneshot "${2%.conf}.conf"; fi
    ;;
  set-default)
    known "$2"
    write $loader/loader.conf "$(grep -v '^default ' $loader/loader.conf 2>/dev/null || :)
default ${2%.conf}.conf"
    ;;
  is-installed) echo yes ;;
  status|"")
    echo "Default entry: $(default)"
    [ ! -e $loader/oneshot ] || echo "OneShot entry: $(cat $loader/oneshot)"
    ;;
  --version) echo "systemd 257 (257-micronix)" ;;
  *) echo "Unknown command verb '$1'." >&2; exit 1 ;;
esac

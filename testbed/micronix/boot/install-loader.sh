#!@shell@
# Writes the boot menu: an entry for each generation of each profile, and the given toplevel's as the default. As
# systemd-boot's installer in NixOS does it: generations that are gone lose their entries, and a toplevel that is no
# generation's changes no default. On an emulated machine, whose /boot is read by the real systemd-boot, kernels and
# initial RAM disks are copied there; elsewhere the entries only name them.
#
#   install-loader TOPLEVEL
set -e
export PATH=@path@
default=$1
limit=@limit@
profiles=/nix/var/nix/profiles
loader=/boot/loader
entries=$loader/entries
# What an emulated machine boots in the place of the stand-ins of the store.
linux=@linux@
copies=/EFI/nixos
[ -n "$default" ] || { echo "usage: install-loader TOPLEVEL" >&2; exit 1; }
mkdir -p "$entries"

# write FILE: standard input, whole or not at all, also where the power fails.
write() {
  cat > "$1.tmp"
  sync "$1.tmp"
  mv -f "$1.tmp" "$1"
  sync "${1%/*}"
}

# generations PROFILE: their numbers, in order, the newest ones where there is a limit.
generations() {
  for link in "$1"-*-link; do
    number=${link#"$1"-}
    number=${number%-link}
    case $number in ''|*[!0-9]*) continue ;; esac
    [ ! -L "$link" ] || echo "$number"
  done | sort -n | if [ "$limit" -gt 0 ]; then tail -n "$limit"; else cat; fi
}

# bootable FILE STAND-IN: how the loader finds a kernel or an initial RAM disk. The copy is named after the path in the
# store, as NixOS names it, so it is another one whenever that path is.
bootable() {
  path=$(readlink -f "$2")
  if [ ! -e $linux ]; then echo "$path"; return; fi
  copy=$copies/$(echo "${path#/nix/store/}" | tr / -).efi
  if [ ! -e "/boot$copy" ]; then
    mkdir -p /boot$copies
    write "/boot$copy" < "$linux/$1" || return
  fi
  echo "$copy"
}

# entry FILE TITLE NUMBER TOPLEVEL
entry() {
  kernel=$(bootable kernel "$4/kernel")
  initrd=$(bootable initrd "$4/initrd")
  write "$entries/$1" <<END
title $2
sort-key nixos
version Generation $3 $(cat "$4/nixos-version"), built on $(date -d "@$(stat -c %Z "$4")" +%F)
linux $kernel
initrd $initrd
options init=$4/init $(cat "$4/kernel-params")$([ ! -e $linux ] || sed 's/^/ /' $linux/params)
END
}

kept=" "
chosen=
# system LINK: the system that a generation boots, by its own words; it may be in a wrapper.
system() {
  init=$(sed -n 's#^{"org.nixos.bootspec.v1":{"init":"\([^"]*\)/init".*#\1#p' "$1/boot.json")
  echo "${init:-$(readlink -f "$1")}"
}
# menu PROFILE NAME-IN-FILES TITLE
menu() {
  for number in $(generations "$1"); do
    toplevel=$(system "$1-$number-link")
    file=nixos-$2generation-$number
    kept="$kept$file.conf "
    if [ ! -e "$toplevel/init" ]; then
      echo "ignoring $1-$number-link in the list of boot entries: it is no system" >&2
      continue
    fi
    entry "$file.conf" "$3" "$number" "$toplevel"
    for s in "$toplevel"/specialisation/*; do
      [ -e "$s/init" ] || continue
      kept="$kept$file-specialisation-${s##*/}.conf "
      entry "$file-specialisation-${s##*/}.conf" "$3 (${s##*/})" "$number" "$(readlink -f "$s")"
    done
    [ "$toplevel" != "$(readlink -f "$default")" ] || chosen=$file.conf
  done
}
menu $profiles/system "" "@distroName@"
for profile in $profiles/system-profiles/*; do
  case $profile in *-link|*/\*) continue ;; esac
  menu "$profile" "${profile##*/}-" "@distroName@ [${profile##*/}]"
done

for file in "$entries"/nixos*-generation-*.conf; do
  [ -e "$file" ] || continue
  case $kept in *" ${file##*/} "*) ;; *) rm -f "$file" ;; esac
done
for file in /boot$copies/*; do
  [ ! -e "$file" ] || grep -qF "$copies/${file##*/}" "$entries"/nixos*-generation-*.conf || rm -f "$file"
done

if [ -n "$chosen" ]; then
  write "$loader/loader.conf" <<END
timeout @timeout@
default $chosen
console-mode keep
END
fi

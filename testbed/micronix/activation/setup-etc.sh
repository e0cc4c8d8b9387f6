# Makes /etc what the given tree says: /etc/static points to it, and each of its files has a link (or, with a mode of
# its own, a copy) in /etc. What an earlier configuration put there and this one does not is taken away. Files that no
# configuration ever had are the base system's, and stay.
etc=$1
static=/etc/static

# The first time, the base system's enabled units make room for the configuration's.
if [ -d /etc/systemd/system ] && [ ! -L /etc/systemd/system ]; then
  rm -rf /etc/systemd/system.base
  mv /etc/systemd/system /etc/systemd/system.base
fi
if [ -d /etc/systemd/user ] && [ ! -L /etc/systemd/user ]; then
  rm -rf /etc/systemd/user.base
  mv /etc/systemd/user /etc/systemd/user.base
fi

link() { # link SOURCE TARGET: in one step
  ln -sfn "$1" "$2.tmp" && mv -fT "$2.tmp" "$2" || echo "warning: could not create symlink $2" >&2
}

mkdir -p /etc
link "$etc" "$static"

# Links into /etc/static that lead nowhere now.
find /etc -type l | while read -r path; do
  [ "$path" != "$static" ] && [ ! -e "$path" ] && [ ! -L "$static${path#/etc}" ] || continue
  to=$(readlink "$path")
  case $to in "$static"/*) ;; *) continue ;; esac
  echo "removing obsolete symlink ‘$path’..." >&2
  rm -f "$path"
done

old_copied=
[ ! -e /etc/.clean ] || old_copied=$(cat /etc/.clean)
copied=
created=" "
while read -r path; do
  name=${path#"$etc"/}
  case $name in *.mode|*.uid|*.gid) [ ! -L "${path%.*}" ] || continue ;; esac
  target=/etc/$name
  [ -d "${target%/*}" ] || mkdir -p "${target%/*}"
  created="$created$name "
  if [ -e "$path.mode" ]; then
    mode=$(cat "$path.mode")
    if [ "$mode" = direct-symlink ]; then
      link "$(readlink -f "$static/$name")" "$target"
    else
      uid=$(cat "$path.uid") gid=$(cat "$path.gid")
      cp -L "$static/$name" "$target.tmp" && chown "${uid#+}:${gid#+}" "$target.tmp" && chmod "$mode" "$target.tmp" && mv -fT "$target.tmp" "$target" \
        || { echo "warning: could not create target $target" >&2; rm -f "$target.tmp"; }
    fi
    copied="$copied$name
"
  elif ! [[ -L $target && $target -ef $static/$name ]]; then
    link "$static/$name" "$target"
  fi
done <<END
$(find "$etc/" -type l)
END

for name in $old_copied; do
  case $created in *" $name "*) ;; *) echo "removing obsolete file ‘/etc/$name’..." >&2; rm -f "/etc/$name" ;; esac
done
printf %s "$copied" > /etc/.clean
[ -e /etc/NIXOS ] || : > /etc/NIXOS

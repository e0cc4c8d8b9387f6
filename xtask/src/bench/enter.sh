# Starts a program where /nix is a store that lies elsewhere: enter.sh ROOT NIX PROGRAM ARGUMENT… , as root, in a mount
# namespace that is the caller's own. For tools that look at /nix/store without asking Nix, on a machine that has none.
# A chroot would not do: nothing in one can make the user namespaces that builds are boxed in with.
set -eu
root=$1 nix=$2
shift 2
here=$PWD
mkdir -p "$root"
mount -t tmpfs none "$root"
for path in /*; do
  if [ -L "$path" ]; then
    cp -P "$path" "$root$path"
  elif [ -d "$path" ] && [ "$path" != /nix ]; then
    mkdir "$root$path"
    mount --rbind "$path" "$root$path"
  fi
done
mkdir "$root/nix"
mount --bind "$nix" "$root/nix"
cd "$root"
pivot_root . .
umount -l .
cd "$here"
exec "$@"

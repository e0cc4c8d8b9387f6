#!/bin/sh
# The toplevel's init: the first process of a machine, until systemd takes its place. What NixOS' first stage mounts is
# mounted already, from outside.
systemConfig=@out@

export HOME=/root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

echo
echo "<<< NixOS Stage 2 >>>"
echo

mkdir -p -m 01777 /tmp
mkdir -p -m 0755 /var/log /var/lib /nix/var /home /etc/nixos /run/lock
rm -rf /nix/var/nix/gcroots/tmp /nix/var/nix/temproots

# Secrets that must not reach the disk.
if ! mountpoint -q /run/keys 2>/dev/null; then
  rm -rf /run/keys
  mkdir -m 0750 /run/keys
  mount -t ramfs -o mode=0750 ramfs /run/keys 2>/dev/null || :
fi

echo "running activation script..."
$systemConfig/activate

ln -sfn "$systemConfig" /run/booted-system
mkdir -p /nix/var/nix/gcroots
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system

echo "starting systemd..."
exec $systemConfig/systemd/lib/systemd/systemd "$@"

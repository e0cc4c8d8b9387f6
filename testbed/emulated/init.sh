#!/bin/busybox sh
# The first process of an emulated machine: what NixOS has as its first stage. It makes the disks and the network ready,
# arms the watchdog where the command line says so, and becomes the init that the command line names. What it can't do ends
# it, and with it the kernel.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /run /root
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
exec < /dev/console > /dev/console 2>&1

echo
echo "<<< NixOS Stage 1 >>>"
echo

fail() {
  echo "stage 1: $*"
  exit 1
}

init= watchdog=
for word in $(cat /proc/cmdline); do
  case $word in
    init=*) init=${word#init=} ;;
    systemd.watchdog_sec=*) watchdog=${word#*=} ;;
  esac
done
[ -n "$init" ] || fail "the command line names no init"

# As the watchdog's module can be told the time, no program is needed that asks for it.
watchdog=${watchdog%s}
case $watchdog in *[!0-9]*) fail "systemd.watchdog_sec=$watchdog is no number of seconds" ;; esac
while read -r module; do
  case $module in i6300esb.ko) set -- ${watchdog:+heartbeat=$watchdog} ;; *) set -- ;; esac
  insmod "/modules/$module" "$@" || fail "can't load $module"
done < /modules/order

# To open it starts it, and to close it without a word leaves it armed: whatever hangs from here on, until systemd takes it
# over, is reset.
if [ "${watchdog:-0}" -gt 0 ]; then
  echo > /dev/watchdog || fail "there is no watchdog"
  echo "stage 1: the watchdog resets this machine in ${watchdog}s"
fi

# The only addresses are those that the lab gives, so that no configuration can lose them.
given=/sys/firmware/qemu_fw_cfg/by_name/opt/bosco
ip link set lo up
ip addr add "$(cat $given/address/raw)" dev eth0 && ip link set eth0 up || fail "can't set up eth0"
ip route add default via "$(cat $given/gateway/raw)"

mount -t ext4 /dev/vdb /root || fail "can't mount the root"
# A disk without partitions holds nothing but GRUB.
if [ -b /dev/vda1 ]; then
  mount -t vfat -o umask=0077 /dev/vda1 /root/boot || fail "can't mount the ESP"
fi

for folder in proc sys dev run; do
  mount --move /$folder /root/$folder
done
exec switch_root /root "$init"

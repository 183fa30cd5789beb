#!/bin/busybox sh
# PID 1 of the initramfs: the modules, then the root disk.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
  /bin/busybox insmod "$module" || echo "vm: insmod $module failed"
done
/bin/busybox mount -t ext4 /dev/vda /root || echo "vm: no root disk"
/bin/busybox mount --move /dev /root/dev
init=$(/bin/busybox sed -n 's/.* vm\.init=\([^ ]*\).*/\1/p' /proc/cmdline)
/bin/busybox umount /proc
# The kernel panics if this returns, which ends the machine.
exec /bin/busybox switch_root /root "$init"

#!/bin/sh
# PID 1 on the root disk of the lane `resources`: cgroup v2 with every controller, then one test program after another.
# What is said to the driver begins with `vm: ` at the start of a line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp RSPAWN_BIN=/rspawn RSPAWN_VM=resources
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ln -sf pts/ptmx /dev/ptmx
ip link set lo up
hostname vm
mkswap /dev/vdb >/dev/null && swapon /dev/vdb
echo 16 >/proc/sys/vm/nr_hugepages

# As a session of systemd's: the tests are in a leaf, and what they start comes to lie beside it.
mkdir /sys/fs/cgroup/session.slice
for name in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$name" >/sys/fs/cgroup/cgroup.subtree_control
done
mkdir /sys/fs/cgroup/session.slice/tests.scope

echo "vm: up $(cut -d ' ' -f 1 /proc/uptime) $(cat /sys/fs/cgroup/cgroup.controllers)"
while read -r name arguments; do
  echo "vm: run $name"
  (
    echo 0 >/sys/fs/cgroup/session.slice/tests.scope/cgroup.procs
    cd /tmp && exec timeout -k 5 300 "/tests/$name" $arguments </dev/null 2>&1
  )
  echo "vm: status $name $? $(cut -d ' ' -f 1 /proc/uptime)"
done </tests/list
echo "vm: done"
sync
busybox poweroff -f

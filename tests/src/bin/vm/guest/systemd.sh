#!/bin/sh
# What runs on the lane `systemd`, once systemd is up: one test program after another.
# What is said to the driver begins with `vm: ` at the start of a line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/var/tmp RSPAWN_BIN=/rspawn RSPAWN_VM=systemd
# Lets what `multi-user.target` holds back finish, which this is not a part of.
state=$(systemctl is-system-running --wait)
echo "vm: up $(cut -d ' ' -f 1 /proc/uptime) systemd is $state"
systemctl --failed --no-legend --plain
while read -r name arguments; do
  echo "vm: run $name"
  (cd /var/tmp && exec timeout -k 5 400 "/tests/$name" $arguments </dev/null 2>&1)
  echo "vm: status $name $? $(cut -d ' ' -f 1 /proc/uptime)"
done </tests/list
echo "vm: done"
systemctl poweroff --force --force

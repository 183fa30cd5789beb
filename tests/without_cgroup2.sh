#!/bin/sh
# Runs a command where /sys/fs/cgroup has no cgroup2 beside the v1 hierarchies, in a mount namespace that ends with it:
#   tests/without_cgroup2.sh env RSPAWN_TEST_RUNTIME=/usr/bin/crun cargo test --test podman_life
# Debian's crun refuses the layout that has both.
set -e
if [ "$INSIDE" != yes ]; then
  INSIDE=yes exec unshare --mount --propagation private "$0" "$@"
fi
layout=$(mktemp -d)
mount -t tmpfs cgroups "$layout"
for hierarchy in /sys/fs/cgroup/*; do
  name=${hierarchy##*/}
  if [ "$name" != unified ]; then
    mkdir "$layout/$name"
    mount --bind "$hierarchy" "$layout/$name"
  fi
done
mount --rbind "$layout" /sys/fs/cgroup
umount --lazy "$layout"
rmdir "$layout"
unset INSIDE
exec "$@"

//! The lane of cgroup v2 alone: a mount namespace in which nothing else is mounted. Which controllers it has is the
//! machine's affair.
use std::process::Command;

/// With the machine's own options: those of any mount of the hierarchy, such as nsdelegate, are the whole machine's.
const MOUNT: &str = "options=$(sed -n 's/.* - cgroup2 [^ ]* //p' /proc/self/mountinfo | head -n 1)
umount -l -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 -o \"${options:-rw}\" cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// A command, in the lane.
pub fn lane(command: Command) -> Command {
    let mut lane = Command::new("unshare");
    lane.args(["-m", "--propagation", "private", "sh", "-c", MOUNT]).arg(command.get_program());
    lane.args(command.get_args());
    lane
}

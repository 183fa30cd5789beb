//! The floor's cgroups: one in each hierarchy, runc's default devices, and its removal.
use core::ffi::CStr;

use super::{Word, call, check, text};

const AT_FDCWD: Word = libc::AT_FDCWD as Word;

/// As runc's default rules come to v1: everything denied, then these.
const RULES: [&CStr; 11] = [
    c"c *:* m", c"b *:* m", c"c 1:3 rwm", c"c 1:5 rwm", c"c 1:7 rwm", c"c 1:8 rwm", c"c 1:9 rwm", c"c 5:0 rwm",
    c"c 5:2 rwm", c"c 136:* rwm", c"c 10:200 rwm",
];

fn open(directory: Word, name: &CStr, flags: i32) -> Word {
    check(40, call(libc::SYS_openat, [directory, text(name), (flags | libc::O_CLOEXEC) as Word]))
}

fn write(directory: Word, name: &CStr, bytes: &[u8]) {
    let file = open(directory, name, libc::O_WRONLY);
    check(41, call(libc::SYS_write, [file, bytes.as_ptr() as Word, bytes.len()]));
    call(libc::SYS_close, [file]);
}

fn copy(directory: Word, from: &CStr, to: &CStr) {
    let (mut buffer, file) = ([0u8; 256], open(directory, from, libc::O_RDONLY));
    let length = check(42, call(libc::SYS_read, [file, buffer.as_mut_ptr() as Word, buffer.len()]));
    call(libc::SYS_close, [file]);
    write(directory, to, &buffer[..length]);
}

/// Each of (directory to show it at, mount options, cgroup above), with the last one opened.
fn each(hierarchies: &[&'static CStr], mut act: impl FnMut(&[u8], Word)) {
    for one in hierarchies.chunks_exact(3) {
        let above = open(AT_FDCWD, one[2], libc::O_PATH | libc::O_DIRECTORY);
        act(one[0].to_bytes(), above);
        call(libc::SYS_close, [above]);
    }
}

pub fn make(hierarchies: &[&'static CStr]) {
    each(hierarchies, |name, above| {
        check(43, call(libc::SYS_mkdirat, [above, text(c"floor"), 0o755]));
        if name.ends_with(b"cpuset") {
            copy(above, c"cpuset.cpus", c"floor/cpuset.cpus");
            copy(above, c"cpuset.mems", c"floor/cpuset.mems");
        }
        if name.ends_with(b"devices") {
            write(above, c"floor/devices.deny", b"a");
            RULES.iter().for_each(|rule| write(above, c"floor/devices.allow", rule.to_bytes()));
        }
    });
}

/// In the container's process, which then makes itself a view that begins there.
pub fn enter(hierarchies: &[&'static CStr]) {
    each(hierarchies, |_, above| write(above, c"floor/cgroup.procs", b"0"));
    check(44, call(libc::SYS_unshare, [libc::CLONE_NEWCGROUP as Word]));
}

pub fn remove(hierarchies: &[&'static CStr]) {
    each(hierarchies, |_, above| {
        check(45, call(libc::SYS_unlinkat, [above, text(c"floor"), libc::AT_REMOVEDIR as Word]));
    });
}

//! The container, from the first call to the last.
extern crate alloc;

use alloc::vec::Vec;
use core::arch::asm;
use core::ffi::CStr;
use core::mem::size_of;

#[path = "cgroups.rs"]
mod cgroups;

type Word = usize;

fn call<const N: usize>(number: libc::c_long, arguments: [Word; N]) -> isize {
    let mut a = [0; 6];
    a[..N].copy_from_slice(&arguments);
    let result: isize;
    // SAFETY: every pointer that this program passes is to a live static or local of the size the call expects.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Starts `entry` in a new process that shares this one's memory, as vfork(2) does, on a stack of its own; returns
/// when that has executed its program or ended. Copying page tables is the most expensive part of fork(2).
fn spawn(arguments: &CloneArgs, entry: extern "C" fn(*const Container) -> !, container: &Container) -> isize {
    let result: isize;
    // SAFETY: the child runs on the stack that the arguments name, never returns from `entry`, and the parent, which
    // owns what `container` points to, is suspended until the child needs it no more.
    unsafe {
        asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r12", "call r13", "ud2", "2:",
            inlateout("rax") libc::SYS_clone3 => result, in("rdi") arguments, in("rsi") size_of::<CloneArgs>(),
            in("r12") container, in("r13") entry, lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// Ends this process with a status that tells which step failed.
fn give_up(step: i32) -> ! {
    loop {
        call(libc::SYS_exit_group, [90 + step as Word]);
    }
}

fn check(step: i32, result: isize) -> Word {
    if result < 0 { give_up(step) } else { result as Word }
}

fn text(string: &CStr) -> Word {
    string.as_ptr() as Word
}

/// struct clone_args of clone3(2), first version.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

struct Container {
    rootfs: &'static CStr,
    hierarchies: &'static [&'static CStr],
}

const STACK: usize = 32 << 10;

#[repr(align(16))]
struct Stack(#[allow(dead_code)] [u8; STACK]);

pub fn main(argv: Vec<&'static CStr>, _env: Vec<&'static CStr>) -> i32 {
    let [_, rootfs, hierarchies @ ..] = argv.leak() else { give_up(0) };
    let container = Container { rootfs, hierarchies };
    cgroups::make(hierarchies);
    let mut stack = core::mem::MaybeUninit::<Stack>::uninit();
    let namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
    let arguments = CloneArgs {
        flags: (namespaces | libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    let pid = check(1, spawn(&arguments, first_process, &container));
    let mut status = 0i32;
    check(2, call(libc::SYS_wait4, [pid, &raw mut status as Word, 0, 0]));
    cgroups::remove(hierarchies);
    rspawn_sys::process::exit_status(status)
}

extern "C" fn first_process(container: *const Container) -> ! {
    // SAFETY: `main` passes a pointer to a local that lives until this process has executed its program.
    let container = unsafe { &*container };
    cgroups::enter(container.hierarchies);
    let root = open_root(container.rootfs);
    mount_filesystems(container, root);
    make_devices();
    name_and_connect();
    cover();
    seal_and_pivot(root);
    last_mile();
    execute()
}

const NOTHING: &CStr = c"";
const NO_SUID: Word = libc::MS_NOSUID as Word;
const NO_EXEC: Word = libc::MS_NOEXEC as Word;
const NO_DEV: Word = libc::MS_NODEV as Word;
const READ_ONLY: Word = libc::MS_RDONLY as Word;
const SAFE: Word = NO_SUID | NO_EXEC | NO_DEV;

/// mount(2) makes a filesystem in one call where the newer interface takes five; with paths that nobody else can
/// change, as here, that is safe.
fn mount(step: i32, kind: &CStr, at: &CStr, flags: Word, options: &CStr) {
    check(step, call(libc::SYS_mount, [text(kind), text(at), text(kind), flags, text(options)]));
}

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

static MAKE_READ_ONLY: MountAttr = MountAttr { set: 1, clear: 0, propagation: 0, userns: 0 };
static MAKE_SLAVE: MountAttr = MountAttr { set: 0, clear: 0, propagation: libc::MS_SLAVE, userns: 0 };

fn set_attributes(step: i32, tree: Word, path: &CStr, flags: i32, attributes: &MountAttr) {
    let flags = (flags | libc::AT_EMPTY_PATH) as Word;
    let arguments = [tree, text(path), flags, attributes as *const MountAttr as Word, size_of::<MountAttr>()];
    check(step, call(libc::SYS_mount_setattr, arguments));
}

const HERE: Word = libc::AT_FDCWD as isize as Word;
const CLONE: Word = 1 | libc::O_CLOEXEC as Word;

fn clone_tree(path: &CStr, flags: i32) -> isize {
    call(libc::SYS_open_tree, [HERE, text(path), CLONE | flags as Word])
}

fn attach(step: i32, tree: Word, at: &CStr) {
    const F_EMPTY_PATH: Word = 4;
    check(step, call(libc::SYS_move_mount, [tree, text(NOTHING), HERE, text(at), F_EMPTY_PATH]));
}

/// Cuts the mounts off from the host's, and makes a copy of the root the working directory. All later paths are
/// relative to it.
fn open_root(rootfs: &CStr) -> Word {
    let close_on_exec = libc::CLOSE_RANGE_CLOEXEC as Word;
    check(3, call(libc::SYS_close_range, [3, u32::MAX as Word, close_on_exec]));
    call(libc::SYS_umask, [0]);
    set_attributes(4, HERE, c"/", libc::AT_RECURSIVE, &MAKE_SLAVE);
    let root = check(5, clone_tree(rootfs, libc::AT_RECURSIVE));
    attach(6, root, c"/");
    check(7, call(libc::SYS_fchdir, [root]));
    root
}

fn mount_filesystems(container: &Container, root: Word) {
    mount(8, c"proc", c"proc", SAFE, NOTHING);
    mount(9, c"tmpfs", c"dev", NO_SUID | libc::MS_STRICTATIME as Word, c"mode=755,size=65536k");
    for (directory, mode) in [(c"dev/pts", 0o755), (c"dev/shm", 0o755), (c"dev/mqueue", 0o755)] {
        check(10, call(libc::SYS_mkdir, [text(directory), mode]));
    }
    mount(11, c"devpts", c"dev/pts", NO_SUID | NO_EXEC, c"newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount(12, c"tmpfs", c"dev/shm", SAFE, c"mode=1777,size=65536k");
    mount(13, c"mqueue", c"dev/mqueue", SAFE, NOTHING);
    mount(14, c"sysfs", c"sys", SAFE | READ_ONLY, NOTHING);
    if container.hierarchies.chunks_exact(3).all(|one| one[0].is_empty()) {
        return mount(15, c"cgroup2", c"sys/fs/cgroup", SAFE | READ_ONLY, NOTHING);
    }
    mount(15, c"tmpfs", c"sys/fs/cgroup", SAFE, c"mode=755");
    // Names below it are short, and the working directory is as good a place as any.
    check(16, call(libc::SYS_chdir, [text(c"sys/fs/cgroup")]));
    for one in container.hierarchies.chunks_exact(3).filter(|one| !one[0].is_empty()) {
        check(17, call(libc::SYS_mkdir, [text(one[0]), 0o755]));
        mount(18, c"cgroup", one[0], SAFE | READ_ONLY, one[1]);
    }
    set_attributes(19, HERE, c".", 0, &MAKE_READ_ONLY);
    check(20, call(libc::SYS_fchdir, [root]));
}

const DEVICES: [(&CStr, Word); 6] = [
    (c"dev/null", 0x103),
    (c"dev/zero", 0x105),
    (c"dev/full", 0x107),
    (c"dev/random", 0x108),
    (c"dev/urandom", 0x109),
    (c"dev/tty", 0x500),
];

const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"/proc/kcore", c"dev/core"),
    (c"pts/ptmx", c"dev/ptmx"),
];

fn make_devices() {
    for (path, device) in DEVICES {
        check(21, call(libc::SYS_mknod, [text(path), libc::S_IFCHR as Word | 0o666, device]));
    }
    for (target, path) in LINKS {
        check(22, call(libc::SYS_symlink, [text(target), text(path)]));
    }
}

/// struct ifreq of netdevice(7) with the flags member of its union.
#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

fn name_and_connect() {
    check(23, call(libc::SYS_sethostname, [text(c"rspawn"), 6]));
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as Word;
    let socket = check(24, call(libc::SYS_socket, [libc::AF_INET as Word, kind, 0]));
    let mut loopback = FlagsRequest { name: [0; 16], flags: libc::IFF_UP as i16, rest: [0; 22] };
    loopback.name[..2].copy_from_slice(b"lo");
    check(25, call(libc::SYS_ioctl, [socket, libc::SIOCSIFFLAGS as Word, &raw mut loopback as Word]));
}

const MASKED_DIRECTORIES: [&CStr; 4] = [c"proc/acpi", c"proc/asound", c"proc/scsi", c"sys/firmware"];

const MASKED_FILES: [&CStr; 7] = [
    c"proc/interrupts", c"proc/kcore", c"proc/keys", c"proc/latency_stats", c"proc/sched_debug", c"proc/timer_list",
    c"proc/timer_stats",
];

const READ_ONLY_PATHS: [&CStr; 5] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];

/// Masks and read-only paths. What the kernel does not have is skipped.
fn cover() {
    let mut masked: isize = -1;
    for path in MASKED_DIRECTORIES {
        if masked >= 0 {
            // A clone of the first, so that all share one file system.
            attach_if_there(clone_tree(MASKED_DIRECTORIES[masked as usize], 0), path);
        } else if call(libc::SYS_mount, [0, text(path), text(c"tmpfs"), SAFE | READ_ONLY, text(c"nr_inodes=1,mode=0")])
            == 0
        {
            masked = MASKED_DIRECTORIES.iter().position(|directory| *directory == path).unwrap_or(0) as isize;
        }
    }
    for path in MASKED_FILES {
        let bind = libc::MS_BIND as Word;
        missing_is_fine(27, call(libc::SYS_mount, [text(c"/dev/null"), text(path), 0, bind, 0]));
    }
    for path in READ_ONLY_PATHS {
        let tree = clone_tree(path, libc::AT_RECURSIVE);
        if tree >= 0 {
            set_attributes(28, tree as Word, NOTHING, 0, &MAKE_READ_ONLY);
            attach(29, tree as Word, path);
        }
    }
}

fn missing_is_fine(step: i32, result: isize) {
    if result != -libc::ENOENT as isize {
        check(step, result);
    }
}

fn attach_if_there(tree: isize, at: &CStr) {
    let tree = check(26, tree);
    missing_is_fine(26, call(libc::SYS_move_mount, [tree, text(NOTHING), HERE, text(at), 4]));
}

fn seal_and_pivot(root: Word) {
    set_attributes(30, root, NOTHING, 0, &MAKE_READ_ONLY);
    check(31, call(libc::SYS_fchdir, [root]));
    check(32, call(libc::SYS_pivot_root, [text(c"."), text(c".")]));
    check(33, call(libc::SYS_umount2, [text(c"."), libc::MNT_DETACH as Word]));
    check(34, call(libc::SYS_chdir, [text(c"/")]));
}

/// CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
const KEPT: [u32; 3] = [5, 10, 29];
const LAST_CAPABILITY: u32 = 40;

fn last_mile() {
    check(35, call(libc::SYS_setsid, []));
    call(libc::SYS_keyctl, [1, text(c"_ses.floor")]);
    let limit = [1024u64, 1024];
    check(36, call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as Word, limit.as_ptr() as Word, 0]));
    call(libc::SYS_umask, [0o022]);
    check(37, call(libc::SYS_setgroups, [0, 0]));
    check(38, call(libc::SYS_setresgid, [0, 0, 0]));
    for capability in (0..=LAST_CAPABILITY).filter(|number| !KEPT.contains(number)) {
        check(39, call(libc::SYS_prctl, [libc::PR_CAPBSET_DROP as Word, capability as Word, 0, 0, 0]));
    }
    check(40, call(libc::SYS_setresuid, [0, 0, 0]));
    check(41, call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as Word, libc::SIGKILL as Word, 0, 0, 0]));
    let kept = KEPT.iter().fold(0, |bits, number| bits | 1u32 << number);
    let header = [0x2008_0522u32, 0];
    let data = [kept, kept, 0, 0, 0, 0];
    check(42, call(libc::SYS_capset, [header.as_ptr() as Word, data.as_ptr() as Word]));
    check(43, call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as Word, 1, 0, 0, 0]));
}

fn execute() -> ! {
    let argv = [text(c"/bin/true"), 0];
    let path = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env = [text(path), text(c"TERM=xterm"), 0];
    call(libc::SYS_execve, [argv[0], argv.as_ptr() as Word, env.as_ptr() as Word]);
    give_up(44)
}

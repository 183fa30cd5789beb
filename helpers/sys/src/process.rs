//! Processes: creation, namespaces, exec, waiting.
use alloc::{ffi::CString, format, vec::Vec};

use crate::file;
use crate::raw::sys;
use crate::{Errno, Fd, Result};

/// Which side of a fork this is.
pub enum Side {
    Child,
    /// The child's pid in this process's pid namespace, and a pidfd of it.
    Parent {
        pid: i32,
        child: Fd,
    },
}

/// Forks, the child in the new namespaces given (CLONE_NEW* flags, 0 for none). The child has a copy of all memory:
/// with no other thread and no C library there is no lock and no cache that the copy could strand.
pub fn fork(namespaces: u64) -> Result<Side> {
    fork_into(namespaces, None)
}

/// As [`fork`], the child in a cgroup of v2.
pub fn fork_into(namespaces: u64, cgroup: Option<&Fd>) -> Result<Side> {
    clone(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// As [`fork_into`], but the child's parent is this process's own parent. The pidfd closes with this process.
pub fn fork_sibling(namespaces: u64, cgroup: Option<&Fd>) -> Result<Side> {
    // With CLONE_PARENT the exit signal is inherited, and naming one is an error (clone(2)).
    clone(namespaces | libc::CLONE_PARENT as u64, 0, cgroup)
}

/// Forks by clone(2) as the C libraries do: under a payload's filter, which may refuse clone3(2), whose arguments it
/// cannot see. Gives the child's pid; in the child, nothing.
pub fn fork_plainly() -> Result<Option<i32>> {
    let pid = sys!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)? as i32;
    Ok((pid != 0).then_some(pid))
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<&Fd>) -> Result<Side> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: i32 = -1;
    let (into, cgroup) = cgroup.map_or((0, 0), |cgroup| (CLONE_INTO_CGROUP, cgroup.raw() as u64));
    let flags = flags | libc::CLONE_PIDFD as u64 | into;
    // struct clone_args of clone3(2), third version: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
    // stack_size, tls, set_tid, set_tid_size, cgroup. Without CLONE_VM the child runs on its own copy of this stack.
    let arguments = [flags, &raw mut pidfd as u64, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup];
    match sys!(SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent { pid: pid as i32, child: Fd::from_raw(pidfd) }),
    }
}

/// A descriptor of a process by its number: for children that are not reaped yet.
pub fn open_pidfd(pid: i32) -> Result<Fd> {
    sys!(SYS_pidfd_open, pid, 0).map(Fd::returned)
}

/// When a process began, in clock ticks since the machine did; `EIO` for one that is dead but not reaped.
pub fn start_time(pid: i32) -> Result<u64> {
    let stat = file::open_plainly(&format!("/proc/{pid}/stat"))?;
    let mut text = [0u8; 1024];
    let length = stat.read(&mut text)?;
    let text = core::str::from_utf8(&text[..length]).map_err(|_| Errno::EIO)?;
    // The name of the program, in parentheses, may hold anything; fields 3 and 22 follow it.
    let mut fields = text.rsplit_once(") ").ok_or(Errno::EIO)?.1.split(' ');
    if matches!(fields.next(), Some("Z" | "X") | None) {
        return Err(Errno::EIO);
    }
    fields.nth(18).and_then(|time| time.parse().ok()).ok_or(Errno::EIO)
}

/// Leaves namespaces for new ones (CLONE_NEW* flags).
pub fn unshare(namespaces: u64) -> Result<()> {
    sys!(SYS_unshare, namespaces).map(drop)
}

/// Joins the namespace that a file stands for, or several of a process that a pidfd stands for.
pub fn join(namespace: &Fd, flags: u64) -> Result<()> {
    sys!(SYS_setns, namespace, flags).map(drop)
}

/// The CLONE_NEW* flag of a namespace file: ioctl_ns(2), NS_GET_NSTYPE.
pub fn namespace_kind(namespace: &Fd) -> Result<u64> {
    const NS_GET_NSTYPE: u32 = 0xb703;
    sys!(SYS_ioctl, namespace, NS_GET_NSTYPE).map(|kind| kind as u64)
}

/// Ends this process. Nothing is unwound or flushed: there is nothing to. Where a payload's filter refuses that call,
/// a fault ends it: PID 1 of a namespace cannot kill itself by kill(2).
pub fn exit(status: i32) -> ! {
    let _ = sys!(SYS_exit_group, status);
    crate::raw::fault()
}

pub fn pid() -> i32 {
    // getpid cannot fail.
    sys!(SYS_getpid).unwrap_or(0) as i32
}

pub fn parent() -> i32 {
    // getppid cannot fail.
    sys!(SYS_getppid).unwrap_or(0) as i32
}

/// Waits for a child (-1: any) to end and gives its pid and wait status; `None` if `block` is false and none has.
/// Stopped and continued children are not reported.
pub fn wait(pid: i32, block: bool) -> Result<Option<(i32, i32)>> {
    let mut status: i32 = 0;
    let options = if block { 0 } else { libc::WNOHANG };
    let pid = sys!(SYS_wait4, pid, &raw mut status, options, 0)? as i32;
    Ok((pid != 0).then_some((pid, status)))
}

/// The status that a shell would give for a wait status: the exit status, or 128 + the signal.
pub fn exit_status(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// Waits for a number of milliseconds.
pub fn sleep(milliseconds: u64) -> Result<()> {
    let duration = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    sys!(SYS_nanosleep, duration.as_ptr(), 0).map(drop)
}

/// Sends a signal to the process of a pidfd: never to another that took over its number.
pub fn signal(process: &Fd, signal: i32) -> Result<()> {
    sys!(SYS_pidfd_send_signal, process, signal, 0, 0).map(drop)
}

/// kill(2), for children that are known not to be reaped.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    sys!(SYS_kill, pid, signal).map(drop)
}

/// NUL-terminated strings and the null-terminated array of pointers to them that execve(2) takes.
pub struct StringArray {
    strings: Vec<CString>,
    pointers: Vec<usize>,
}

impl StringArray {
    pub fn new<'a>(strings: impl Iterator<Item = &'a str>) -> Result<Self> {
        let strings: Vec<CString> =
            strings.map(CString::new).collect::<core::result::Result<_, _>>().map_err(|_| Errno::EINVAL)?;
        let pointers = strings.iter().map(|s| s.as_ptr() as usize).chain([0]).collect();
        Ok(Self { strings, pointers })
    }

    /// Takes over an array that the kernel laid out for this process.
    pub fn from_start(strings: &[&'static core::ffi::CStr]) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr() as usize).chain([0]).collect();
        Self { strings: Vec::new(), pointers }
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) -> Result<()> {
        let string = CString::new(string).map_err(|_| Errno::EINVAL)?;
        // The characters stay where they are when the CString moves.
        self.pointers.insert(self.pointers.len() - 1, string.as_ptr() as usize);
        self.strings.push(string);
        Ok(())
    }
}

/// Executes an open file. Returns only on failure.
pub fn execute_file(file: &Fd, argv: &StringArray, env: &StringArray) -> Errno {
    // Both arrays end with null and hold addresses of strings that they own, or that live as long as the process.
    let (argv, env) = (argv.pointers.as_ptr(), env.pointers.as_ptr());
    sys!(SYS_execveat, file, c"", argv, env, libc::AT_EMPTY_PATH).err().unwrap_or(Errno::EIO)
}

/// Executes a path. Returns only on failure.
pub fn execute(path: &str, argv: &StringArray, env: &StringArray) -> Errno {
    let Ok(path) = CString::new(path) else { return Errno::EINVAL };
    sys!(SYS_execve, &path, argv.pointers.as_ptr(), env.pointers.as_ptr()).err().unwrap_or(Errno::EIO)
}

/// A pipe: the end to read from, the end to write to.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    sys!(SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok((Fd::from_raw(ends[0]), Fd::from_raw(ends[1])))
}

/// Starts a session; this process leads it.
pub fn new_session() -> Result<()> {
    sys!(SYS_setsid).map(drop)
}

/// Makes a process (0: this one) the leader of a process group of its own.
pub fn new_process_group(pid: i32) -> Result<()> {
    sys!(SYS_setpgid, pid, 0).map(drop)
}

/// Sets the name that ps(1) shows, of at most 15 bytes.
pub fn set_name(name: &core::ffi::CStr) -> Result<()> {
    sys!(SYS_prctl, libc::PR_SET_NAME, name, 0, 0, 0).map(drop)
}

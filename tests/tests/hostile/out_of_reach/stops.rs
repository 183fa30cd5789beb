//! Every process of a command, stopped at each of its system calls, so that a test can look at it there.
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rspawn_tests::Output;

/// Runs a command to its end, and calls `look` with the pid of whoever is at the beginning or end of a system call.
/// What lives on when the command has ended goes on by itself.
pub fn at_each_stop(command: &Command, mut look: impl FnMut(Pid)) -> Output {
    let scratch = rspawn_tests::Scratch::new();
    let (out, err) = (scratch.path.join("out"), scratch.path.join("err"));
    // It waits until it is traced: only what is stopped misses nothing.
    let mut waiting = Command::new("/bin/sh");
    waiting.args(["-c", "read go; exec \"$0\" \"$@\" </dev/null"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        waiting.env(key, value.unwrap_or_default());
    }
    let (stdout, stderr) = (File::create(&out).expect("a file"), File::create(&err).expect("a file"));
    // It is waited for below, by its pid.
    #[allow(clippy::zombie_processes)]
    let mut child = waiting.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).spawn().expect("a shell");
    let root = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(root, options).expect("to trace");
    ptrace::interrupt(root).expect("to stop");
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("to let it go");
    let status = loop {
        // Children of other threads, which are other tests', are not this one's to wait for.
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == root => break status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == root => break 128 + signal as i32,
            Ok(WaitStatus::PtraceSyscall(pid)) => {
                look(pid);
                // It may have been killed meanwhile.
                let _ = ptrace::syscall(pid, None);
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => drop(ptrace::syscall(pid, None)),
            Ok(WaitStatus::Stopped(pid, signal)) => drop(ptrace::syscall(pid, Some(signal))),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => panic!("waitpid: {errno}"),
        }
    };
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    Output { status, stdout: text(&out), stderr: text(&err) }
}

//! One hook: a program that gets the container's state on its standard input, and has a time to end in.
//!
//! Whoever runs it may wear a payload's filter by then. So everything is made ready before, and of the calls that are
//! left a runtime in Go makes nearly every one as well: `clone`, in the child `dup3` and `execve`, then `wait4`, with a
//! timeout `setpgid` and `nanosleep`, and after a failure `kill`, or `lseek` and `read` for what the hook has said.
use alloc::{format, string::String};

use rspawn_proto::hook::Hook;
use rspawn_proto::ids::HostPath;

use crate::file;
use crate::hook_program::Program;
use crate::memory::SharedWord;
use crate::process::{self, StringArray};
use crate::{Errno, Failure, Fd, Named, Outcome, Result};

/// Bytes of a hook's output that an error quotes.
const QUOTED: usize = 1024;

/// A hook that only has to be executed.
pub struct Prepared<'a> {
    hook: &'a Hook,
    /// Its program, where a policy has judged it.
    program: Option<Program>,
    input: Fd,
    /// What an error quotes.
    output: Fd,
    /// Files in its place, for standard output and standard error.
    files: [Option<Fd>; 2],
    argv: StringArray,
    env: StringArray,
    /// errno of the child that could not execute it.
    refused: SharedWord,
}

impl<'a> Prepared<'a> {
    pub fn new(hook: &'a Hook, program: Option<Program>, state: &str, env: StringArray) -> Outcome<Self> {
        let input = file::memory("rspawn-state").named("memfd_create")?;
        input.write(state.as_bytes()).and_then(|()| input.rewind()).named("write")?;
        let output = file::memory("rspawn-hook-output").named("memfd_create")?;
        let files = [open_output(&hook.outputs[0])?, open_output(&hook.outputs[1])?];
        let words = hook.argv.iter().map(|word| word.as_str());
        let path = [hook.path.as_str()];
        let argv = if hook.argv.is_empty() { StringArray::new(path.into_iter()) } else { StringArray::new(words) };
        let refused = SharedWord::of_family().named("mmap")?;
        Ok(Self { hook, program, input, output, files, argv: argv.named("execve")?, env, refused })
    }

    /// Runs it to its end, or to its time's. `wear` is the last thing that its process does before it becomes the hook.
    pub fn run(&self, wear: impl FnOnce() -> Result<()>) -> Outcome<()> {
        self.start_and_wait(wear).map_err(|failure| {
            let separator = if failure.detail.is_empty() { "" } else { ": " };
            let detail = format!("{}: the hook {}{separator}{}", self.hook.origin, self.hook.path, failure.detail);
            failure.with(detail)
        })
    }

    fn start_and_wait(&self, wear: impl FnOnce() -> Result<()>) -> Outcome<()> {
        let Some(pid) = process::fork_plainly().named("clone")? else {
            self.refused.store(self.become_it(wear).0 as u32);
            process::exit(127)
        };
        let status = match self.hook.timeout {
            0 => process::wait(pid, true).named("wait4")?.map_or(0, |(_, status)| status),
            seconds => wait_for_at_most(pid, seconds)?,
        };
        match (self.refused.load(), process::exit_status(status), status & 0x7f) {
            (errno @ 1.., ..) => Err(Failure::of("execve", Errno(errno as i32))),
            (_, 0, _) => Ok(()),
            (_, code, 0) => Err(Failure::check(&format!("exit status {code}{}", self.quoted()))),
            (.., signal) => Err(Failure::check(&format!("killed by signal {signal}{}", self.quoted()))),
        }
    }

    /// In the child. Returns only on failure.
    fn become_it(&self, wear: impl FnOnce() -> Result<()>) -> Errno {
        // So that its children can be killed with it.
        let apart = if self.hook.timeout > 0 { process::new_process_group(0) } else { Ok(()) };
        let [stdout, stderr] = self.files.each_ref().map(|file| file.as_ref().unwrap_or(&self.output));
        let placed = apart
            .and_then(|()| self.input.install(0))
            .and_then(|()| stdout.install(1))
            .and_then(|()| stderr.install(2));
        match placed.and_then(|()| wear()) {
            Ok(()) => match &self.program {
                Some(Program::Opened(file)) => process::execute_file(file, &self.argv, &self.env),
                Some(Program::Script(path)) => process::execute(path, &self.argv, &self.env),
                None => process::execute(self.hook.path.as_str(), &self.argv, &self.env),
            },
            Err(errno) => errno,
        }
    }

    /// What a hook said, for the error that it caused.
    fn quoted(&self) -> String {
        let mut bytes = [0u8; QUOTED];
        let length = self.output.rewind().and_then(|()| self.output.read(&mut bytes)).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]);
        // An error is one line.
        let text = text.trim().replace('\n', "; ");
        if text.is_empty() { String::new() } else { format!(": {text}") }
    }
}

/// A file of the host's, made where it is missing.
fn open_output(path: &Option<HostPath>) -> Outcome<Option<Fd>> {
    let Some(path) = path else { return Ok(None) };
    let opened = file::open_appending(path.as_str()).named("openat2");
    opened.map(Some).map_err(|failure| failure.with(path.as_str()))
}

/// The wait status of a child that has this many seconds. It is looked for again and again: what would wait for both
/// at once (a pidfd, a signal) takes calls that fewer filters let pass.
fn wait_for_at_most(pid: i32, seconds: u32) -> Outcome<i32> {
    let mut left = u64::from(seconds) * 1000;
    let mut pause = 1;
    let late = loop {
        if let Some((_, status)) = process::wait(pid, false).named("wait4")? {
            return Ok(status);
        }
        if left == 0 {
            break Failure::check(&format!("it was killed after its timeout of {seconds} s"));
        }
        pause = left.min(pause + 1).min(20);
        if let Err(errno) = process::sleep(pause) {
            break Failure::of("nanosleep", errno);
        }
        left -= pause;
    };
    // Its children, too: it leads a process group.
    let _ = process::kill(-pid, libc::SIGKILL);
    let _ = process::wait(pid, true);
    Err(late)
}

//! Programs run to their end, and what they print. None keeps a test waiting for ever.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PATIENCE;

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 128 + the signal that killed it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// stdout of a run that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// stderr of a run that rspawn must have refused, with one error and nothing of the payload's.
    #[track_caller]
    pub fn refused(self) -> String {
        // 255 is that of `exec`, whose other statuses are the command's.
        assert!(matches!(self.status, 1 | 255), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("rspawn: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("a bug"), "{}", self.stderr);
        self.stderr
    }
}

/// Runs a command to its end, with input; kills it (alone) if it hangs, which fails the test.
#[track_caller]
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    collect(child)
}

/// Waits for a started child and collects what it prints.
#[track_caller]
pub fn collect(mut child: Child) -> Output {
    fn reader(mut from: impl Read + Send + 'static) -> Receiver<String> {
        let (to, text) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            to.send(String::from_utf8_lossy(&bytes).into_owned())
        });
        text
    }
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("a child to wait for") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                panic!("it hung for {PATIENCE:?}, pid {}", child.id());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text = |reader: Option<Receiver<String>>| {
        // What it has left behind may hold the pipe.
        reader.map_or_else(String::new, |reader| reader.recv_timeout(PATIENCE).expect("the end of what it prints"))
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Output { status: code, stdout: text(stdout), stderr: text(stderr) }
}

/// Lines that a started program prints. One that prints none for long is killed, which fails the test.
pub struct Lines {
    lines: Receiver<String>,
    printer: Pid,
}

impl Lines {
    pub fn of(child: &mut Child) -> Self {
        let (to, lines) = channel();
        let stdout = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
        });
        Self { lines, printer: Pid::from_raw(child.id() as i32) }
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let _ = kill(self.printer, Signal::SIGKILL);
                panic!("no line for {PATIENCE:?}");
            }
        }
    }
}

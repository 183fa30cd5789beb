//! The caller's terminal and the container's console, kept in step.
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rspawn_sys::{Errno, Fd, pty};

/// How the container's console is connected to the caller's streams; the words are systemd-nspawn's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ConsoleMode {
    /// A terminal, copied both ways.
    Interactive,
    /// A terminal whose output is shown; nothing is sent to it.
    ReadOnly,
    /// A terminal that is connected to nothing.
    Passive,
    /// No terminal: the caller's own streams.
    Pipe,
    /// Interactive if stdin and stdout are terminals, else pipe.
    Autopipe,
}

impl ConsoleMode {
    /// The mode to use: the one asked for, or what fits the streams.
    pub fn resolve(asked: Option<ConsoleMode>, stdin_is_terminal: bool, stdout_is_terminal: bool) -> Option<Self> {
        match asked {
            Some(ConsoleMode::Autopipe) if stdin_is_terminal && stdout_is_terminal => Some(ConsoleMode::Interactive),
            Some(ConsoleMode::Autopipe) => Some(ConsoleMode::Pipe),
            other => other,
        }
    }

    pub fn has_terminal(self) -> bool {
        self != ConsoleMode::Pipe
    }
}

/// The caller's terminal in raw mode; put back when dropped.
pub struct RawMode {
    saved: Option<Termios>,
}

impl RawMode {
    /// Does nothing if stdin is no terminal.
    pub fn enter() -> Self {
        let stdin = std::io::stdin();
        let Ok(saved) = tcgetattr(stdin.as_fd()) else { return Self { saved: None } };
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        let entered = tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw);
        Self { saved: entered.is_ok().then_some(saved) }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, saved);
        }
    }
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
}

/// The console's master, and what waits to be written to it.
pub struct Console {
    master: Fd,
    mode: ConsoleMode,
    stdin: Fd,
    stdout: Fd,
    input: Pending,
    /// stdin is at its end, or not wanted.
    input_ended: bool,
    output_ended: bool,
    _raw: Option<RawMode>,
}

/// The end-of-file character of a terminal in canonical mode, ^D.
const END_OF_FILE: u8 = 4;

impl Console {
    pub fn new(master: Fd, mode: ConsoleMode) -> Self {
        let interactive = mode == ConsoleMode::Interactive;
        // A full console must not stop the other direction: both ends would wait for each other.
        let _ = master.set_nonblocking();
        let console = Self {
            master,
            mode,
            stdin: Fd::from_raw(0),
            stdout: Fd::from_raw(1),
            input: Pending::default(),
            input_ended: !interactive,
            output_ended: false,
            _raw: interactive.then(RawMode::enter),
        };
        if interactive {
            console.resize();
        }
        console
    }

    /// Gives the console the size of the caller's terminal.
    pub fn resize(&self) {
        if let Ok((rows, columns)) = pty::size(&self.stdin).or_else(|_| pty::size(&self.stdout))
            && rows != 0
        {
            let _ = pty::set_size(&self.master, rows, columns);
        }
    }

    pub fn master(&self) -> &Fd {
        &self.master
    }

    pub fn stdin(&self) -> &Fd {
        &self.stdin
    }

    pub fn wants_stdin(&self) -> bool {
        !self.input_ended && self.input.bytes.is_empty()
    }

    pub fn wants_output(&self) -> bool {
        !self.output_ended && self.mode != ConsoleMode::Passive
    }

    pub fn has_input(&self) -> bool {
        !self.input.bytes.is_empty()
    }

    /// stdin is readable.
    pub fn read_stdin(&mut self) {
        let mut buffer = [0u8; 4096];
        match self.stdin.read(&mut buffer) {
            Ok(0) | Err(_) => {
                self.input_ended = true;
                self.input.bytes.push(END_OF_FILE);
            }
            Ok(length) => self.input.bytes.extend_from_slice(&buffer[..length]),
        }
    }

    /// The master can be written to.
    pub fn write_input(&mut self) {
        match self.master.write_some(&self.input.bytes) {
            Ok(written) => drop(self.input.bytes.drain(..written)),
            Err(Errno::EAGAIN) => {}
            Err(_) => self.input.bytes.clear(),
        }
    }

    /// The master can be read from. False at its end.
    pub fn copy_output(&mut self) -> bool {
        let mut buffer = [0u8; 16 << 10];
        match self.master.read(&mut buffer) {
            Ok(length) if length > 0 => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match self.stdout.write_some(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(_) => break,
                    }
                }
                true
            }
            Err(Errno::EAGAIN) => false,
            // EIO: the last slave was closed.
            _ => {
                self.output_ended = true;
                false
            }
        }
    }

    /// What the payload wrote last may still be on its way when it has ended.
    pub fn drain(&mut self) {
        while self.wants_output() && self.copy_output() {}
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The streams are the process's own; they stay open for error messages.
        for stream in [&mut self.stdin, &mut self.stdout] {
            let number = stream.raw();
            std::mem::replace(stream, Fd::from_raw(-1)).leak();
            debug_assert!(number >= 0);
        }
    }
}

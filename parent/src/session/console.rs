//! The caller's terminal and the container's console, kept in step.
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rspawn_sys::channel::{self, Interest, Ready};
use rspawn_sys::{Errno, Fd, pty};

use super::escape::Escape;

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

    /// Whether the container's console shows on the caller's stdout.
    pub fn is_shown(self) -> bool {
        matches!(self, ConsoleMode::Interactive | ConsoleMode::ReadOnly)
    }
}

/// Columns of the terminal that standard output is, if it is one and knows its size.
pub fn stdout_columns() -> Option<usize> {
    size_of_stream(1).map(|(_, columns)| usize::from(columns)).filter(|columns| *columns != 0)
}

fn size_of_stream(number: i32) -> Option<(u16, u16)> {
    let stream = Fd::from_raw(number);
    let size = pty::size(&stream).ok();
    stream.leak();
    size
}

/// Rows and columns of the terminal among the caller's stdin and stdout, if it knows its size.
pub fn caller_size() -> Option<(u16, u16)> {
    let known = |number| size_of_stream(number).filter(|(rows, columns)| *rows != 0 && *columns != 0);
    known(0).or_else(|| known(1))
}

/// The caller's terminal in raw mode; put back when dropped.
pub struct RawMode {
    saved: Option<Termios>,
}

impl RawMode {
    /// Does nothing if stdin is not a terminal.
    pub fn enter() -> Self {
        Self::with(cfmakeraw)
    }

    /// Each key by itself, Ctrl-C included, and none of them shown: for a command that is steered by keys, whose output
    /// is lines.
    pub fn keys() -> Self {
        Self::with(|settings| {
            settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        })
    }

    /// Whether there is a terminal, and it is in this mode.
    pub fn is_entered(&self) -> bool {
        self.saved.is_some()
    }

    fn with(change: impl FnOnce(&mut Termios)) -> Self {
        let stdin = std::io::stdin();
        let Ok(saved) = tcgetattr(stdin.as_fd()) else { return Self { saved: None } };
        let mut raw = saved.clone();
        change(&mut raw);
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

/// The console's master, and what waits to be written to it.
pub struct Console {
    master: Fd,
    mode: ConsoleMode,
    stdin: Fd,
    stdout: Fd,
    /// Read from stdin, not yet written to the master.
    input: Vec<u8>,
    /// The last byte of the input so far ended a line.
    at_line_start: bool,
    /// stdin is at its end, or not wanted.
    input_ended: bool,
    output_ended: bool,
    raw: Option<RawMode>,
    escape: Escape,
    /// The keys that ask for the container's end were pressed.
    asks_to_end: bool,
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
            input: Vec::new(),
            at_line_start: true,
            input_ended: !interactive,
            output_ended: false,
            raw: interactive.then(RawMode::enter),
            escape: Escape::default(),
            asks_to_end: false,
        };
        if mode.is_shown() && !std::io::stdout().is_terminal() {
            // Whoever reads a file or a pipe wants lines to end as the payload ended them.
            let _ = pty::keep_line_ends(&console.master);
        }
        console.resize();
        console
    }

    /// Gives the console the size of the terminal that it is shown on.
    pub fn resize(&self) {
        if self.mode.is_shown()
            && let Some((rows, columns)) = caller_size()
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
        !self.input_ended && self.input.is_empty()
    }

    pub fn wants_output(&self) -> bool {
        !self.output_ended
    }

    /// Whether a person asks for the container's end, since this was asked last.
    pub fn asks_to_end(&mut self) -> bool {
        std::mem::take(&mut self.asks_to_end)
    }

    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Does what can be done now.
    pub fn go_on(&mut self, stdin: Ready, master: Ready) {
        if stdin.read {
            self.read_stdin();
        }
        if master.write {
            self.write_input();
        }
        if master.read {
            self.copy_output();
        }
    }

    /// stdin is readable.
    pub fn read_stdin(&mut self) {
        let mut buffer = [0u8; 4096];
        match self.stdin.read(&mut buffer) {
            Err(Errno::EAGAIN) => {}
            Ok(0) | Err(_) => {
                self.input_ended = true;
                // Within a line the first one only hands the line over (termios(3), VEOF).
                let needed = if self.at_line_start { 1 } else { 2 };
                self.input.extend_from_slice(&[END_OF_FILE; 2][..needed]);
            }
            Ok(length) => {
                // What comes from a file or a pipe are no keys.
                if self.raw.as_ref().is_some_and(RawMode::is_entered) {
                    self.asks_to_end |= self.escape.hear(&buffer[..length], Instant::now());
                }
                self.at_line_start = matches!(buffer[length - 1], b'\n' | b'\r');
                self.input.extend_from_slice(&buffer[..length]);
            }
        }
    }

    /// The master can be written to.
    pub fn write_input(&mut self) {
        match self.master.write_some(&self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(Errno::EAGAIN) => {}
            Err(_) => self.input.clear(),
        }
    }

    /// The master can be read from. False at its end.
    pub fn copy_output(&mut self) -> bool {
        let mut buffer = [0u8; 16 << 10];
        match self.master.read(&mut buffer) {
            Ok(length) if length > 0 => {
                // What is shown nowhere is read all the same: a full console would stop the payload.
                if self.mode.is_shown() {
                    self.show(&buffer[..length]);
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

    fn show(&self, mut rest: &[u8]) {
        while !rest.is_empty() {
            match self.stdout.write_some(rest) {
                Ok(written) => rest = &rest[written..],
                // Whoever shares the stream with us has made it non-blocking.
                Err(Errno::EAGAIN) => {
                    let _ = channel::wait([Interest { fd: &self.stdout, read: false, write: true }], None);
                }
                Err(_) => break,
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

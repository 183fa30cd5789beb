//! Which console a container gets, by the command line, by where the caller's streams lead, and by config.json.
use std::io::IsTerminal;

use rspawn_host::streams;
use rspawn_planner::oci::{ConsoleSize, Spec};
use rspawn_proto::msg::Mode;
use rspawn_sys::Fd;

use crate::session::ConsoleSink;
use crate::session::console::{ConsoleMode, caller_size};

/// What is known before config.json is read.
pub struct ConsoleChoice {
    /// What `--console=` makes of these streams, where it is said.
    asked: Option<ConsoleMode>,
    stdin_is_terminal: bool,
    stdout_is_terminal: bool,
}

impl ConsoleChoice {
    pub fn of(console: Option<ConsoleMode>) -> Self {
        let (stdin_is_terminal, stdout_is_terminal) = (std::io::stdin().is_terminal(), std::io::stdout().is_terminal());
        let asked = ConsoleMode::resolve(console, stdin_is_terminal, stdout_is_terminal);
        Self { asked, stdin_is_terminal, stdout_is_terminal }
    }

    /// A person is at both ends.
    pub fn is_terminal(&self) -> bool {
        self.stdin_is_terminal && self.stdout_is_terminal
    }

    /// Whether the container is to have a terminal, where the command line says it.
    pub fn has_terminal(&self) -> Option<bool> {
        self.asked.map(ConsoleMode::has_terminal)
    }

    /// Where the console goes, and its first size.
    pub fn sink(&self, spec: &mut Spec, socket: Option<Fd>, mode: Mode) -> Result<ConsoleSink, String> {
        let configured = || spec.process.as_ref().is_some_and(|process| process.terminal);
        let terminal = self.has_terminal().unwrap_or_else(configured);
        match socket {
            Some(socket) => {
                check_socket(mode, terminal)?;
                Ok(ConsoleSink::Socket(socket))
            }
            None if terminal && mode != Mode::Foreground => {
                Err("cannot allocate tty if the container is detached, without --console-socket".into())
            }
            None => {
                let mode = self.asked.unwrap_or_else(|| default_mode(terminal, self.stdin_is_terminal));
                if self.asked.is_none() && mode == ConsoleMode::ReadOnly {
                    streams::warn(ONLY_SHOWN);
                }
                fit_console(spec, mode, caller_size());
                Ok(ConsoleSink::Shown(mode))
            }
        }
    }
}

/// runc's rule: a console socket is for a terminal that outlives this command.
fn check_socket(mode: Mode, terminal: bool) -> Result<(), String> {
    if mode == Mode::Foreground || !terminal {
        return Err("cannot use --console-socket if the container is not detached or has no terminal".into());
    }
    Ok(())
}

/// A shell that waits for input which never comes looks as if rspawn hung.
const ONLY_SHOWN: &str = "stdin is not a terminal, so the container's console is only shown: --console=interactive passes \
                          stdin on to it, --console=pipe does without a console, --console=read-only is content";

/// As systemd-nspawn: interactive on a terminal, else only shown.
fn default_mode(terminal: bool, stdin_is_terminal: bool) -> ConsoleMode {
    match (terminal, stdin_is_terminal) {
        (false, _) => ConsoleMode::Pipe,
        (true, true) => ConsoleMode::Interactive,
        (true, false) => ConsoleMode::ReadOnly,
    }
}

/// The terminal that the console is shown on counts before what the bundle would like it to be.
fn fit_console(spec: &mut Spec, mode: ConsoleMode, size: Option<(u16, u16)>) {
    if let (Some(process), Some((rows, columns)), true) = (&mut spec.process, size, mode.is_shown()) {
        process.console_size = Some(ConsoleSize { height: rows.into(), width: columns.into() });
    }
}

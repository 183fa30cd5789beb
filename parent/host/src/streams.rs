//! What goes to stdout and stderr. The macros of the standard library panic where a stream is gone or full; these
//! give an error, or nothing where there is nobody left to tell.
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use rspawn_planner::printable::printable;

/// Writes an answer. Who has closed the other end (`| head`) wants no more of it, which is no failure.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), String> {
    print_more(text).map(drop)
}

/// The same of an answer that goes on: whether anybody wants more of it.
pub fn print_more(text: impl AsRef<[u8]>) -> Result<bool, String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot write to stdout: {error}")),
    }
}

/// A line on stderr.
pub fn say(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

pub fn warn(reason: impl Display) {
    say(format_args!("rspawn: warning: {}", printable(&reason.to_string())));
}

/// Whether standard output takes colours: on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb
/// one. Asked before privileges go: by an ioctl, and of the invoker's environment.
pub fn takes_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

//! `rspawn kill`: a signal to a container.
use nix::sys::signal::Signal;
use rspawn_proto::namespaces::Namespace;
use rspawn_sys::process;

use crate::cgroups;
use crate::cli::{Global, Kill};
use crate::describe;
use crate::problem::did_you_mean;
use crate::state::{StateRoot, Status};

/// What runc says, and clients match on.
const NOT_RUNNING: &str = "container not running";

pub fn kill(global: &Global, arguments: Kill) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let signal = parse(&arguments.signal)?;
    let Some(first) = container.process() else {
        if arguments.all {
            // Processes of a shared pid namespace may live on without it.
            cgroups::signal_all(&container.record.cgroups, signal);
            return Ok(0);
        }
        return Err(NOT_RUNNING.into());
    };
    let paused = container.status() == Status::Paused;
    // The end of its first process is that of all in a pid namespace of its own; elsewhere each is killed.
    let all = arguments.all || (signal == libc::SIGKILL && !container.record.namespaces.contains(Namespace::Pid));
    if all {
        cgroups::signal_all(&container.record.cgroups, signal);
    }
    match process::signal(&first, signal) {
        Ok(()) => {}
        // It was among them.
        Err(rspawn_sys::Errno(libc::ESRCH)) if all => {}
        Err(rspawn_sys::Errno(libc::ESRCH)) => return Err(NOT_RUNNING.into()),
        Err(errno) => return Err(format!("cannot signal container {}: {}", arguments.id, describe::errno(errno.0))),
    }
    if signal == libc::SIGKILL && paused {
        // A frozen process of cgroup v1 dies when it is thawed.
        cgroups::thaw(&container.record.cgroups);
    }
    Ok(0)
}

/// A number, or a name with or without SIG, in any case; RTMIN+n and RTMAX-n as well.
pub fn parse(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(unknown(text)) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok() };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => offset(rest).map(|offset| 34 + offset),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => offset(rest).map(|offset| 64 - offset),
        _ => None,
    };
    if let Some(number) = real_time.filter(|number| (34..=64).contains(number)) {
        return Ok(number);
    }
    let aliases = [("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO), ("IOT", libc::SIGABRT), ("UNUSED", libc::SIGSYS)];
    let alias = aliases.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number);
    let known = || format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32);
    alias.or_else(known).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> String {
    let names = Signal::iterator().map(|signal| signal.as_str().to_string());
    let wanted =
        if text.len() > 3 && text.to_ascii_uppercase().starts_with("SIG") { text.into() } else { format!("SIG{text}") };
    format!("unknown signal {text:?}{}", did_you_mean(&wanted, names))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("usr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
            ("WINCH", 28),
            ("CLD", 17),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "FOO", "RTMIN+99", "RTMIN-1", "9x"] {
            assert!(parse(text).unwrap_err().contains("unknown signal"), "{text}");
        }
        assert!(parse("SIGTREM").unwrap_err().contains("did you mean SIGTERM?"));
    }
}

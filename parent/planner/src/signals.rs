//! Signals by name and number.
use crate::prelude::*;

use crate::problem::did_you_mean;

/// Names without SIG, from 1 on (signal(7); the numbers are those of all architectures that rspawn runs on).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Other names of the same.
const ALIASES: [(&str, &str); 4] = [("CLD", "CHLD"), ("POLL", "IO"), ("IOT", "ABRT"), ("UNUSED", "SYS")];

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
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    let number = NAMES.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, number)| number);
    number.ok_or_else(|| unknown(text))
}

/// As [`parse`], and 0, which is sent to nobody: kill(2) only says whether it could be.
pub fn parse_or_probe(text: &str) -> Result<i32, String> {
    if text.parse() == Ok(0) { Ok(0) } else { parse(text) }
}

fn unknown(text: &str) -> String {
    let names = NAMES.iter().map(|name| format!("SIG{name}"));
    let wanted =
        if text.len() > 3 && text.to_ascii_uppercase().starts_with("SIG") { text.into() } else { format!("SIG{text}") };
    format!("unknown signal {text:?}{}", did_you_mean(&wanted, names))
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_or_probe};

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
        assert_eq!((parse_or_probe("0"), parse_or_probe("TERM")), (Ok(0), Ok(15)));
        assert!(parse_or_probe("-1").is_err() && parse_or_probe("").is_err());
        assert!(parse("SIGTREM").unwrap_err().contains("did you mean SIGTERM?"));
    }
}

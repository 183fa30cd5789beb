//! Signals by name and number.

/// Names of the signals with numbers 1 to 31 (signal(7), the numbering of every machine that rspawn runs on).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The C library's first and last real-time signal, which is what names count from.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// The number of a signal: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn parse(text: &str) -> Result<u8, String> {
    let unknown = || format!("{text:?} is no signal{}", crate::problem::did_you_mean(bare(text), NAMES));
    if let Ok(number) = super::values::number::<u8>(text) {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = bare(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Ok(index as u8 + 1);
    }
    let real_time = if let Some(offset) = name.strip_prefix("RTMIN") {
        from_offset(offset, '+').and_then(|offset| RTMIN.checked_add(offset))
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        from_offset(offset, '-').and_then(|offset| RTMAX.checked_sub(offset))
    } else {
        None
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).ok_or_else(unknown)
}

fn bare(name: &str) -> &str {
    name.strip_prefix("SIG").unwrap_or(name)
}

/// Nothing, or a sign and a number.
fn from_offset(text: &str, sign: char) -> Option<u8> {
    if text.is_empty() { Some(0) } else { super::values::number(text.strip_prefix(sign)?).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_way_to_write_a_signal() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("SIGSYS", 31),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in ["0", "65", "-1", "+9", "", "SIG", "SIGNOPE", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX-31", "300"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("SIGTREM").unwrap_err().contains("TERM?"));
    }
}

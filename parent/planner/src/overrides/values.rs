//! The values of options and settings keys, as systemd writes them: numbers, booleans, lists of words, limits.
use crate::prelude::*;
use core::str::FromStr;

use crate::oci::Rlimit;
use crate::problem::did_you_mean;
use crate::tables::{CAPABILITIES, RLIMITS};

/// A capability set to add or to take away; `u64::MAX` is all of them.
pub type CapabilityBits = u64;

/// What the root filesystem keeps after the container (systemd-nspawn's `--volatile=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volatile {
    No,
    /// The root is read-only, /var a tmpfs.
    State,
    /// The root is a tmpfs with the image's /usr in it, read-only.
    Yes,
    /// The root is an overlay of a tmpfs over the image.
    Overlay,
}

/// A decimal number of digits alone: no sign, no space. What is not a number is never taken for one.
pub fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse().ok() } else { None };
    parsed.ok_or_else(|| format!("{text:?} is not a number, or too large a one"))
}

/// A boolean, in each of systemd's spellings.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither yes nor no")),
    }
}

pub fn volatile(text: &str) -> Result<Volatile, String> {
    match text {
        "state" => Ok(Volatile::State),
        "overlay" => Ok(Volatile::Overlay),
        other => match boolean(other) {
            Ok(true) => Ok(Volatile::Yes),
            Ok(false) => Ok(Volatile::No),
            Err(_) => Err(format!("{text:?} is not one of yes, no, state, overlay")),
        },
    }
}

/// Words between spaces; quotes keep spaces together, and a backslash takes the next character as it is.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.get_or_insert_default().push(escape(&mut characters)?),
            (end, Some(open)) if end == open => quote = None,
            (other, Some(_)) => word.get_or_insert_default().push(other),
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, None) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is opened and not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// What stands after a backslash: the escapes of C that systemd.syntax(7) lists.
fn escape(rest: &mut core::str::Chars) -> Result<char, String> {
    let code = |digits: usize, rest: &mut core::str::Chars| {
        let text: String = rest.take(digits).collect();
        let value = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits);
        value.and_then(char::from_u32).filter(|c| *c != '\0').ok_or("an escape names no character")
    };
    Ok(match rest.next().ok_or("a backslash ends the text")? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        'x' => code(2, rest)?,
        'u' => code(4, rest)?,
        'U' => code(8, rest)?,
        other => other,
    })
}

/// `NAME=value`; a name alone takes its value from `inherited`.
pub fn assignment(text: &str, inherited: impl Fn(&str) -> Option<String>) -> Result<Option<(String, String)>, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (text, inherited(text)),
    };
    if name.is_empty() || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(format!("{name:?} is not the name of a variable"));
    }
    // A name alone that is not set here is not set there either.
    Ok(value.map(|value| (name.to_string(), value)))
}

/// A path inside the container.
pub fn inside(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_string()) } else { Err(format!("{text:?} is not an absolute path")) }
}

/// As [`inside`]; with a leading dash it may be missing.
pub fn maybe_inside(text: &str) -> Result<(String, bool), String> {
    let rest = text.strip_prefix('-');
    inside(rest.unwrap_or(text)).map(|path| (path, rest.is_some()))
}

/// Capabilities between commas or spaces; `all` is every one.
pub fn capabilities(text: &str) -> Result<CapabilityBits, String> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words.into_iter().try_fold(0, |bits, word| {
        let upper = word.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(u64::MAX);
        }
        let found = CAPABILITIES.iter().position(|name| *name == upper || name[4..] == upper);
        let message = || format!("there is no capability {word:?}{}", did_you_mean(word, CAPABILITIES));
        found.map(|number| bits | 1 << number).ok_or_else(message)
    })
}

pub fn oom_score(text: &str) -> Result<i32, String> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let score: i32 = number(digits)?;
    if score > 1000 { Err(format!("{text} is outside the range from -1000 to 1000")) } else { Ok(sign * score) }
}

/// CPU numbers and ranges between commas or spaces: `0-3,7`.
pub fn cpus(text: &str) -> Result<Vec<usize>, String> {
    /// What the kernel is built for at most on the machines of today.
    const MOST: usize = 8192;
    let mut cpus = alloc::collections::BTreeSet::new();
    for part in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        if first > last || last >= MOST {
            return Err(format!("{part:?} is no range of CPUs"));
        }
        cpus.extend(first..=last);
    }
    if cpus.is_empty() { Err("there is no CPU in it".into()) } else { Ok(cpus.into_iter().collect()) }
}

pub fn personality(text: &str) -> Result<&'static str, String> {
    match text {
        "x86" => Ok("LINUX32"),
        "x86-64" | "arm64" | "riscv64" => Ok("LINUX"),
        _ => Err(format!("{text:?} is neither x86 nor x86-64")),
    }
}

/// A signal to send, as `rspawn kill` takes it.
pub fn signal(text: &str) -> Result<u8, String> {
    crate::signals::parse(text).and_then(|number| u8::try_from(number).map_err(|error| error.to_string()))
}

/// 32 hexadecimal digits, with or without the dashes of a UUID; as a UUID.
pub fn machine_id(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("{text:?} is not a machine id: 32 hexadecimal digits"));
    }
    let part = |from: usize, to: usize| &digits[from..to];
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// Ids that a user namespace takes if nothing else is said.
const ID_RANGE: u32 = 65536;

/// `identity`, `FIRST` or `FIRST:COUNT`.
pub fn private_users(text: &str) -> Result<(u32, u32), String> {
    if text == "identity" {
        return Ok((0, ID_RANGE));
    }
    let (first, count) = match text.split_once(':') {
        Some((first, count)) => (number(first)?, number(count)?),
        None => (number(text)?, ID_RANGE),
    };
    Ok((first, count))
}

/// A network device of the host, and its name in the container: `HOST[:CONTAINER]`.
pub fn interface(text: &str) -> Result<(String, String), String> {
    let (name, new_name) = text.split_once(':').unwrap_or((text, text));
    if name.is_empty() || new_name.is_empty() {
        return Err(format!("{text:?} is not of the form HOST or HOST:CONTAINER"));
    }
    Ok((name.into(), new_name.into()))
}

/// `RLIMIT_NOFILE=SOFT:HARD`, `NOFILE=BOTH`.
pub fn rlimit(text: &str) -> Result<Rlimit, String> {
    let (name, value) = text.split_once('=').ok_or("it must read LIMIT=SOFT:HARD or LIMIT=VALUE")?;
    rlimit_of(name, value)
}

/// The value of one limit: `SOFT:HARD` or one for both, in the units of systemd.exec(5).
pub fn rlimit_of(name: &str, value: &str) -> Result<Rlimit, String> {
    let upper = name.to_ascii_uppercase();
    let found = RLIMITS.iter().find(|known| **known == upper || known["RLIMIT_".len()..] == upper);
    let kind = *found.ok_or_else(|| format!("there is no resource limit {name:?}{}", did_you_mean(name, RLIMITS)))?;
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = (amount(kind, soft)?, amount(kind, hard)?);
    if soft > hard {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok(Rlimit { kind: kind.into(), soft, hard })
}

/// 2^64-1 is how config.json says "no limit".
const UNLIMITED: u64 = u64::MAX;

fn amount(kind: &str, text: &str) -> Result<u64, String> {
    if text == "infinity" {
        return Ok(UNLIMITED);
    }
    let wrong = || format!("{text:?} is not a value of {kind}");
    match kind {
        "RLIMIT_CPU" => time(text, 1_000_000).map(|span| span.div_ceil(1_000_000)).ok_or_else(wrong),
        "RLIMIT_RTTIME" => time(text, 1).ok_or_else(wrong),
        "RLIMIT_NICE" if text.starts_with(['+', '-']) => nice(text).ok_or_else(wrong),
        "RLIMIT_NPROC" | "RLIMIT_NOFILE" | "RLIMIT_LOCKS" | "RLIMIT_SIGPENDING" | "RLIMIT_NICE" | "RLIMIT_RTPRIO" => {
            number(text).map_err(|_| wrong())
        }
        _ => bytes(text).ok_or_else(wrong),
    }
}

/// A nice level as the limit on it counts it: 20 minus the level (getrlimit(2)).
fn nice(text: &str) -> Option<u64> {
    let level: i64 = text.strip_prefix('+').unwrap_or(text).parse().ok()?;
    (-20..=19).contains(&level).then_some((20 - level) as u64)
}

/// Bytes; K, M, G, T, P, E to the base 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    number::<u64>(digits).ok()?.checked_mul(1 << (10 * power))
}

/// A time span in microseconds: `90`, `1min 30s`. A number without unit counts in `unit` microseconds.
fn time(text: &str, unit: u64) -> Option<u64> {
    const UNITS: [(&str, u64); 14] = [
        ("us", 1),
        ("usec", 1),
        ("ms", 1000),
        ("msec", 1000),
        ("s", 1_000_000),
        ("sec", 1_000_000),
        ("second", 1_000_000),
        ("seconds", 1_000_000),
        ("m", 60_000_000),
        ("min", 60_000_000),
        ("h", 3_600_000_000),
        ("hr", 3_600_000_000),
        ("d", 86_400_000_000),
        ("w", 604_800_000_000),
    ];
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let value: u64 = number(&rest[..digits]).ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let factor = match &rest[..letters] {
            "" => unit,
            name => UNITS.iter().find(|(known, _)| *known == name)?.1,
        };
        total = total.checked_add(value.checked_mul(factor)?)?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_quoted_together() {
        assert_eq!(words(r#"a  "b c" 'd "e' f\ g \x41 "" "#).unwrap(), ["a", "b c", "d \"e", "f g", "A", ""]);
        assert_eq!(words("A=b' c'd").unwrap(), ["A=b cd"]);
        for bad in ["\"a", "'", "a\\", r"\x0", r"\x00"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        for bad in ["", "+1", "-1", " 1", "0x10", "1 ", "4294967296", "١"] {
            assert!(number::<u32>(bad).is_err(), "{bad:?}");
        }
        assert_eq!(number::<u32>("4294967295"), Ok(u32::MAX));
        assert_eq!((oom_score("-1000"), oom_score("7")), (Ok(-1000), Ok(7)));
        assert!(oom_score("1001").is_err() && oom_score("--1").is_err());
    }

    #[test]
    fn limits_have_units() {
        let limit = |text: &str| rlimit(text).map(|limit| (limit.kind, limit.soft, limit.hard));
        assert_eq!(limit("RLIMIT_NOFILE=8192:16384"), Ok(("RLIMIT_NOFILE".into(), 8192, 16384)));
        assert_eq!(limit("core=infinity"), Ok(("RLIMIT_CORE".into(), UNLIMITED, UNLIMITED)));
        assert_eq!(limit("AS=4G"), Ok(("RLIMIT_AS".into(), 4 << 30, 4 << 30)));
        assert_eq!(limit("CPU=1min 30s"), Ok(("RLIMIT_CPU".into(), 90, 90)));
        assert_eq!(limit("CPU=5"), Ok(("RLIMIT_CPU".into(), 5, 5)));
        assert_eq!(limit("RTTIME=2ms:1s"), Ok(("RLIMIT_RTTIME".into(), 2000, 1_000_000)));
        assert_eq!(limit("NICE=-5"), Ok(("RLIMIT_NICE".into(), 25, 25)));
        for bad in ["NOFILE", "NOFILE=", "NOFILE=1K", "NOFILE=9:8", "AS=4X", "CPU=", "CPU=1parsec", "NICE=+20", "X=1"] {
            assert!(rlimit(bad).is_err(), "{bad}");
        }
        assert!(rlimit("AS=16E").is_err(), "it does not fit");
    }

    #[test]
    fn lists() {
        assert_eq!(cpus("0-2,7 1"), Ok(vec![0, 1, 2, 7]));
        for bad in ["", "3-1", "a", "1-", "0-99999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(capabilities("CAP_CHOWN,kill"), Ok(0b10_0001));
        assert_eq!(capabilities("all"), Ok(u64::MAX));
        assert!(capabilities("CAP_NETADMIN").unwrap_err().contains("CAP_NET_ADMIN?"));
    }

    #[test]
    fn variables() {
        let none = |_: &str| None;
        assert_eq!(assignment("A=b=c", none), Ok(Some(("A".into(), "b=c".into()))));
        assert_eq!(assignment("A", none), Ok(None));
        assert_eq!(assignment("A", |_| Some("x".into())), Ok(Some(("A".into(), "x".into()))));
        assert!(assignment("=x", none).is_err() && assignment("", none).is_err());
    }
}

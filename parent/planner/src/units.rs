//! Amounts as runc's options take them: memory sizes of docker's, durations of Go's.

use crate::prelude::*;
/// Bytes: `100M`, `1.5g`, `64MiB`, `512 kb`; all to the base 1024.
pub fn memory_size(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not an amount of memory such as 100M");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit.ends_with("ib") => return Err(wrong()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let number = digits.strip_suffix(' ').unwrap_or(digits);
    let scaled = fixed_point(number, 1 << (10 * power)).ok_or_else(wrong)?;
    i64::try_from(scaled).map_err(|_| wrong())
}

/// Nanoseconds: `5s`, `1m30s`, `1.5h`, `250ms`.
pub fn duration(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let wrong = || format!("{text:?} is not a duration such as 5s or 1m30s");
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = fixed_point(number, u128::from(scale)).and_then(|part| u64::try_from(part).ok());
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = behind;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A decimal number, with a fraction or without, times `scale`, rounded down.
fn fixed_point(text: &str, scale: u128) -> Option<u128> {
    const DIGITS: usize = 18;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.len() <= DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let part = fraction.parse::<u128>().ok()? * scale / 10u128.pow(fraction.len() as u32);
    Some(whole.parse::<u128>().ok()? * scale + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("100M", 100 << 20), ("1.5g", 3 << 29), ("64MiB", 64 << 20), ("2 kb", 2048)]
        {
            assert_eq!(memory_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1x", "1ib", "1 2", ".5m", "1.m", "9999999999999999p", "0x10", "+1"] {
            assert!(memory_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanoseconds) in
            [("5s", 5_000_000_000), ("1m30s", 90_000_000_000), ("1.5ms", 1_500_000), ("2h", 7_200_000_000_000)]
        {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        for bad in ["", "5", "s", "-5s", "5 s", "1d", "1.2.3s", "99999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}

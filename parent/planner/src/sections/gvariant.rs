//! Values of systemd's properties in GVariant's text form, as annotations have them: `true`, `'text'`, `uint64 5`,
//! `['a', 'b']`, `[('/dev/sda', uint64 5)]`.
use crate::prelude::*;
use rspawn_proto::ids::Text;
use rspawn_proto::plan::UnitValue;

/// A value that is read, before it is known what it is for.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Flag(bool),
    Text(String),
    /// With the name of its type; a bare one is an int32.
    Number(&'static str, i128),
    Fraction(f64),
    Array(Vec<Value>),
    Tuple(Vec<Value>),
}

/// Types of numbers, and what they hold.
const NUMBERS: [(&str, i128, i128); 8] = [
    ("byte", 0, 0xff),
    ("int16", -0x8000, 0x7fff),
    ("uint16", 0, 0xffff),
    ("int32", -0x8000_0000, 0x7fff_ffff),
    ("uint32", 0, 0xffff_ffff),
    ("handle", -0x8000_0000, 0x7fff_ffff),
    ("int64", i64::MIN as i128, i64::MAX as i128),
    ("uint64", 0, u64::MAX as i128),
];

/// Reads a value for a property. Of one in seconds (`is_seconds`), the microseconds that systemd takes.
pub fn parse(text: &str, is_seconds: bool) -> Result<UnitValue, String> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.skip_space();
    if !reader.rest.is_empty() {
        return Err(format!("there is something after its end: {:?}", reader.rest));
    }
    if is_seconds { microseconds(value) } else { convert(value) }
}

fn microseconds(value: Value) -> Result<UnitValue, String> {
    const SECOND: i128 = 1_000_000;
    let time = match value {
        Value::Number(_, number) if number >= 0 => number * SECOND,
        Value::Fraction(number) if number >= 0.0 => (number * SECOND as f64) as i128,
        _ => return Err("a time in seconds is a number".into()),
    };
    Ok(UnitValue::Uint64(u64::try_from(time).map_err(|_| "that is too long a time")?))
}

fn convert(value: Value) -> Result<UnitValue, String> {
    const UNKNOWN: &str = "rspawn passes no values of this type to systemd: booleans, strings, 32 and 64 bit numbers, \
                           arrays of strings, of bytes and of (string, uint64)";
    Ok(match value {
        Value::Flag(flag) => UnitValue::Flag(flag),
        Value::Text(text) => UnitValue::Text(Text::new(text)?),
        // Each is in the range of its type.
        Value::Number("int32", number) => UnitValue::Int32(number as i32),
        Value::Number("uint32", number) => UnitValue::Uint32(number as u32),
        Value::Number("int64", number) => UnitValue::Int64(number as i64),
        Value::Number("uint64", number) => UnitValue::Uint64(number as u64),
        Value::Array(values) => array(values).ok_or(UNKNOWN)?,
        Value::Number(..) | Value::Fraction(_) | Value::Tuple(_) => return Err(UNKNOWN.into()),
    })
}

fn array(values: Vec<Value>) -> Option<UnitValue> {
    let text = |value: &Value| match value {
        Value::Text(text) => Text::new(text.as_str()).ok(),
        _ => None,
    };
    let byte = |value: &Value| match value {
        Value::Number("byte", number) => u8::try_from(*number).ok(),
        _ => None,
    };
    let device = |value: &Value| match value {
        Value::Tuple(parts) => match parts.as_slice() {
            [path, Value::Number("uint64", number)] => Some((text(path)?, *number as u64)),
            _ => None,
        },
        _ => None,
    };
    let texts = || values.iter().map(text).collect::<Option<_>>().map(UnitValue::Texts);
    let bytes = || values.iter().map(byte).collect::<Option<_>>().map(UnitValue::Bytes);
    let devices = || values.iter().map(device).collect::<Option<_>>().map(UnitValue::Devices);
    texts().or_else(bytes).or_else(devices)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past a token, if it is next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let after = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > 3 {
            return Err("its values are nested too deeply".into());
        }
        if self.take("[") {
            return self.list("]", depth).map(Value::Array);
        }
        if self.take("(") {
            return self.list(")", depth).map(Value::Tuple);
        }
        if self.take("@") {
            // Needed for an array without elements alone.
            if self.word() != "as" || !self.rest.trim_start().starts_with('[') {
                return Err("the only type that may be written with @ is @as".into());
            }
            return self.value(depth);
        }
        for quote in ['\'', '"'] {
            if self.take(quote.encode_utf8(&mut [0; 4])) {
                return self.text(quote).map(Value::Text);
            }
        }
        match self.word() {
            "" if self.rest.is_empty() => Err("a value is missing".into()),
            "" => Err(format!("{:?} is not a value: strings are quoted ('text')", self.rest)),
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            "double" => fraction(self.word()),
            word => match NUMBERS.into_iter().find(|(name, ..)| *name == word) {
                Some(kind) => number(kind, self.word()),
                None if word.contains('.') && !word.starts_with(|c: char| c.is_ascii_alphabetic()) => fraction(word),
                None => number(NUMBERS[3], word),
            },
        }
    }

    fn list(&mut self, end: &str, depth: usize) -> Result<Vec<Value>, String> {
        let mut values: Vec<Value> = Vec::new();
        while !self.take(end) {
            if !values.is_empty() && !self.take(",") {
                return Err(format!("there is neither `,` nor `{end}` after a value"));
            }
            let value = self.value(depth + 1)?;
            // A type is written before the first element alone.
            values.push(match (values.first(), value) {
                (Some(Value::Number(kind, _)), Value::Number("int32", plain)) if end == "]" => {
                    let kind = NUMBERS.into_iter().find(|(name, ..)| name == kind).unwrap_or(NUMBERS[3]);
                    number(kind, &plain.to_string())?
                }
                (_, value) => value,
            });
        }
        Ok(values)
    }

    fn text(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    self.rest = &self.rest[at + character.len_utf8()..];
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, plain @ ('\\' | '\'' | '"'))) => text.push(plain),
                    _ => return Err("a string has an escape that is not \\\\, \\', \\\", \\n or \\t".into()),
                },
                _ => text.push(character),
            }
        }
        Err("a string has no end".into())
    }
}

fn number((name, least, most): (&'static str, i128, i128), word: &str) -> Result<Value, String> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word.strip_prefix('+').unwrap_or(word)), |rest| (-1, rest));
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parsed = i128::from_str_radix(digits, radix).ok().filter(|_| is_plain && digits.len() < 25);
    match parsed.map(|number| sign * number) {
        None => Err(format!("{word:?} is not a value: strings are quoted ('text')")),
        Some(number) if !(least..=most).contains(&number) => Err(format!("{number} is beyond the range of {name}")),
        Some(number) => Ok(Value::Number(name, number)),
    }
}

fn fraction(word: &str) -> Result<Value, String> {
    let number: Option<f64> = word.parse().ok().filter(|number: &f64| number.is_finite());
    number.map(Value::Fraction).ok_or_else(|| format!("{word:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new(text).unwrap()
    }

    #[test]
    fn values_of_every_kind() {
        let texts = |list: &[&str]| UnitValue::Texts(list.iter().map(|one| text(one)).collect());
        for (written, expected) in [
            ("true", UnitValue::Flag(true)),
            (" false ", UnitValue::Flag(false)),
            ("15", UnitValue::Int32(15)),
            ("-0x10", UnitValue::Int32(-16)),
            ("int32 010", UnitValue::Int32(8)),
            ("uint32 4294967295", UnitValue::Uint32(u32::MAX)),
            ("int64 -5", UnitValue::Int64(-5)),
            ("uint64 18446744073709551615", UnitValue::Uint64(u64::MAX)),
            ("'inactive-or-failed'", UnitValue::Text(text("inactive-or-failed"))),
            ("\"it's \\\"so\\\"\"", UnitValue::Text(text("it's \"so\""))),
            ("'ü\\n'", UnitValue::Text(text("ü\n"))),
            ("['crio.service']", texts(&["crio.service"])),
            ("[ 'a' , \"b\" ]", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("[]", texts(&[])),
            ("[byte 0x01, 2]", UnitValue::Bytes(vec![1, 2])),
            ("[('/dev/sda', uint64 5)]", UnitValue::Devices(vec![(text("/dev/sda"), 5)])),
        ] {
            assert_eq!(parse(written, false), Ok(expected), "{written}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (written, expected) in
            [("5", 5_000_000), ("uint64 7", 7_000_000), ("0.25", 250_000), ("double 2", 2_000_000)]
        {
            assert_eq!(parse(written, true), Ok(UnitValue::Uint64(expected)), "{written}");
        }
        for written in ["-1", "'5'", "uint64 18446744073709551615", "true"] {
            assert!(parse(written, true).is_err(), "{written}");
        }
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        for (written, reason) in [
            ("", "missing"),
            ("hello", "quoted"),
            ("'open", "no end"),
            ("'\\x'", "escape"),
            ("true false", "after its end"),
            ("uint32 4294967296", "beyond the range of uint32"),
            ("uint64 -1", "beyond the range of uint64"),
            ("4294967296", "beyond the range of int32"),
            ("0x", "quoted"),
            ("0x-5", "quoted"),
            ("09", "quoted"),
            ("1.5", "no values of this type"),
            ("byte 5", "no values of this type"),
            ("int16 5", "no values of this type"),
            ("('a', 1)", "no values of this type"),
            ("[1, 2]", "no values of this type"),
            ("['a', 1]", "no values of this type"),
            ("[('a', 1)]", "no values of this type"),
            ("['a' 'b']", "neither"),
            ("['a'", "neither"),
            ("[[[[[['a']]]]]]", "nested too deeply"),
            ("@au []", "@as"),
            ("<true>", "not a value"),
            ("'a\0b'", "NUL"),
            ("uint32", "quoted"),
        ] {
            let error = parse(written, false).expect_err(written);
            assert!(error.contains(reason), "{written}: {error}");
        }
    }
}

//! Colours on a terminal, none anywhere else.
use std::io::IsTerminal;

/// Whether to use them. Decided before privileges go: a terminal is asked by ioctl, and the environment is the
/// invoker's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Colours {
    on: bool,
}

/// What a piece of text is to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Heading,
    /// Where a step comes from: there, but not in the way.
    Faint,
    /// Reaches the host, or could be used to.
    Alarming,
    /// Worth a second look.
    Notable,
    /// Takes something away from the container.
    Reassuring,
}

impl Colours {
    pub const NEVER: Colours = Colours { on: false };

    /// For standard output: on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb one.
    pub fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { on: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb }
    }

    /// Text that is safe to print: what a bundle calls things must not command the terminal.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let text = printable(text);
        let code = match tone {
            Tone::Plain => return text,
            Tone::Heading => "1",
            Tone::Faint => "2",
            Tone::Alarming => "1;31",
            Tone::Notable => "33",
            Tone::Reassuring => "32",
        };
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }
}

/// Text with its control characters written out.
pub fn printable(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_string();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Control characters, and those that change the direction in which the rest is read.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_commands_no_terminal() {
        assert_eq!(printable("a\x1b[2J\u{9b}\u{202e}b\n"), "a\\u{1b}[2J\\u{9b}\\u{202e}b\\n");
        assert_eq!(Colours::NEVER.paint(Tone::Alarming, "x"), "x");
        assert_eq!(Colours { on: true }.paint(Tone::Heading, "x"), "\x1b[1mx\x1b[0m");
    }
}

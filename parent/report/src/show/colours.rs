//! Colours on a terminal, none anywhere else.
use rspawn_planner::printable::printable;

/// Whether to use them.
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

    pub fn when(on: bool) -> Self {
        Self { on }
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

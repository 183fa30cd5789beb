//! Rust source as tokens, as far as it takes to find modules, paths and functions. A parser of the whole language
//! (`syn`) would not look into the arguments of macros, where paths are too.

/// A word, a piece of punctuation, or a literal, whose text is `""`.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub text: String,
    pub first_line: usize,
    pub last_line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_word_start)
    }
}

fn is_word_start(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn length_of_word(text: &str) -> usize {
    text.find(|character| !is_in_word(character)).unwrap_or(text.len())
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
        skipped
    }

    /// Up to the end of what `pattern` finds, or to the end of the text.
    fn skip_past(&mut self, pattern: &str) {
        let end = self.rest.find(pattern).map_or(self.rest.len(), |at| at + pattern.len());
        self.skip(end);
    }

    /// Comments nest.
    fn skip_block_comment(&mut self) {
        self.skip(2);
        let mut depth = 1;
        while depth > 0 && !self.rest.is_empty() {
            depth = match self.rest {
                rest if rest.starts_with("/*") => depth + 1,
                rest if rest.starts_with("*/") => depth - 1,
                _ => {
                    self.skip(self.rest.chars().next().map_or(0, char::len_utf8));
                    continue;
                }
            };
            self.skip(2);
        }
    }

    /// Up to the end of a text between quotes, whose first one is next.
    fn skip_quoted(&mut self, quote: char) {
        self.skip(1);
        while let Some(character) = self.rest.chars().next() {
            self.skip(character.len_utf8());
            match character {
                '\\' => drop(self.skip(self.rest.chars().next().map_or(0, char::len_utf8))),
                found if found == quote => return,
                _ => {}
            }
        }
    }

    /// Bytes of the prefix and the number sign that a literal may have, if one is next.
    fn raw_text(&self) -> Option<(usize, String)> {
        let prefix = ["br", "cr", "r"].into_iter().find(|prefix| self.rest.starts_with(prefix))?;
        let signs = self.rest[prefix.len()..].chars().take_while(|character| *character == '#').count();
        let start = prefix.len() + signs;
        self.rest[start..].starts_with('"').then(|| (start + 1, format!("\"{}", "#".repeat(signs))))
    }

    /// Takes what begins with this character. Gives the token, if it is one.
    fn take(&mut self, next: char) -> Option<String> {
        let behind = &self.rest[next.len_utf8()..];
        let literal = Some("\"\"".to_string());
        if let Some((start, end)) = self.raw_text() {
            self.skip(start);
            self.skip_past(&end);
            return literal;
        }
        match next {
            '/' if behind.starts_with('/') => self.skip_past("\n"),
            '/' if behind.starts_with('*') => self.skip_block_comment(),
            '"' => {
                self.skip_quoted('"');
                return literal;
            }
            '\'' if self.is_character() => {
                self.skip_quoted('\'');
                return literal;
            }
            // A lifetime, with its name.
            '\'' => drop(self.skip(1 + length_of_word(behind))),
            'b' | 'c' if behind.starts_with(['"', '\'']) => drop(self.skip(1)),
            _ if next.is_whitespace() => drop(self.skip(next.len_utf8())),
            _ if is_in_word(next) => return Some(self.skip(length_of_word(self.rest)).to_string()),
            ':' if behind.starts_with(':') => return Some(self.skip(2).to_string()),
            _ => return Some(self.skip(next.len_utf8()).to_string()),
        }
        None
    }

    /// Whether a character follows, and no lifetime.
    fn is_character(&self) -> bool {
        let mut characters = self.rest.chars().skip(1);
        characters.next() == Some('\\') || characters.next() == Some('\'')
    }
}

/// The tokens of a text; comments, white space and lifetimes are left out.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut reader = Reader { rest: text, line: 1 };
    while let Some(next) = reader.rest.chars().next() {
        let first_line = reader.line;
        if let Some(text) = reader.take(next) {
            found.push(Token { text, first_line, last_line: reader.line });
        }
    }
    found
}

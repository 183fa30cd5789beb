//! Command lines as one would type them.

/// Words as one would type them.
pub fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let plain = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "_-./=:,@%+".contains(c));
    let quoted = |word: &str| if plain(word) { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

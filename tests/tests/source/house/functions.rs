//! How long functions are.
use std::collections::BTreeSet;

use crate::graph::{end_of_group, without_tests};
use crate::tokens::{Token, tokens};

/// Every function of a source with a body, unit tests left out: its name, and its lines that are neither blank nor
/// comment, from its name to the end of its body.
pub fn lengths(text: &str) -> Vec<(String, usize)> {
    let (tokens, _) = without_tests(&tokens(text));
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if !(pair[0].is("fn") && pair[1].is_word()) {
            continue;
        }
        if let Some(end) = end_of_function(&tokens, at) {
            found.push((pair[1].text.clone(), lines(&tokens[at..end])));
        }
    }
    found
}

/// Behind its body; `None` where it has none.
fn end_of_function(tokens: &[Token], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text.as_str() {
            ";" => return None,
            "{" => return Some(end_of_group(tokens, at)),
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
}

fn lines(tokens: &[Token]) -> usize {
    tokens.iter().flat_map(|token| token.first_line..=token.last_line).collect::<BTreeSet<usize>>().len()
}

//! The syntax of settings files (systemd.syntax(7)): sections, `Key=value`, comments, continued lines.

use crate::prelude::*;
/// One assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub line: usize,
    pub section: String,
    pub key: String,
    pub value: String,
}

/// Parses a file. An empty assignment takes back the earlier ones of its key, and is gone itself.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section: Option<String> = None;
    for (line, text) in joined(text) {
        let text = text.trim();
        let wrong = |what: &str| format!("line {line}: {what}");
        if text.is_empty() {
            continue;
        }
        if let Some(rest) = text.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or_else(|| wrong("the section's name does not end with `]`"))?;
            section = Some(name.to_string());
            continue;
        }
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("it is neither a section nor `Key=value`"))?;
        let section = section.clone().ok_or_else(|| wrong("the assignment stands before the first section"))?;
        let (key, value) = (key.trim().to_string(), value.trim().to_string());
        if value.is_empty() {
            entries.retain(|entry| (&entry.section, &entry.key) != (&section, &key));
        } else {
            entries.push(Entry { line, section, key, value });
        }
    }
    Ok(entries)
}

/// Lines with those that continue them, and the number of the first; comments are left out, between them as well.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (content, more) = line.strip_suffix('\\').map_or((line, false), |content| (content, true));
        match lines.last_mut() {
            Some((_, whole)) if continues => {
                whole.push(' ');
                whole.push_str(content);
            }
            _ => lines.push((index + 1, content.to_string())),
        }
        continues = more;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<(usize, String)> {
        let entries = parse(text).unwrap();
        entries.into_iter().map(|e| (e.line, format!("{}.{}={}", e.section, e.key, e.value))).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# a\n[Exec]\nParameters = a \\\n; between\n  b\\\n c\nUser=x\r\n\n[Files]\n  Bind=/a=b\n";
        let expected = [(3, "Exec.Parameters=a    b  c"), (7, "Exec.User=x"), (10, "Files.Bind=/a=b")];
        assert_eq!(shape(text), expected.map(|(line, text)| (line, text.to_string())));
    }

    #[test]
    fn an_empty_assignment_takes_back() {
        let text = "[Files]\nBind=/a\nBindReadOnly=/c\nBind=\nBind=/b\n[Exec]\nBind=/x\n";
        let expected = [(3, "Files.BindReadOnly=/c"), (5, "Files.Bind=/b"), (7, "Exec.Bind=/x")];
        assert_eq!(shape(text), expected.map(|(line, text)| (line, text.to_string())));
    }

    #[test]
    fn what_is_no_assignment_is_an_error() {
        for (bad, line) in [("Bind=/a", "line 1"), ("[Exec]\n\nnonsense", "line 3"), ("[Exec", "line 1")] {
            assert!(parse(bad).unwrap_err().starts_with(line), "{bad}");
        }
        assert!(parse("").unwrap().is_empty());
    }
}

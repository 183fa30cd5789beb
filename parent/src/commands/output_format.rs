//! Whom an answer is for: a program behind a pipe gets what runc prints, a person at a terminal something to read.
use std::io::{IsTerminal, stdout};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    Json,
    Table,
    Human,
}

impl OutputFormat {
    /// What `--format` says, of the names that a command knows; without it, `piped` unless a person looks at it.
    pub fn choose(asked: Option<&str>, known: &[(&str, OutputFormat)], piped: OutputFormat) -> Result<Self, String> {
        let Some(asked) = asked else {
            return Ok(if stdout().is_terminal() { OutputFormat::Human } else { piped });
        };
        let found = known.iter().find(|(name, _)| *name == asked);
        found.map(|(_, shape)| *shape).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!("invalid format option: it is one of {}, not {asked:?}", names.join(", "))
        })
    }
}

/// Of `list` and `ps`.
pub const TABLES: &[(&str, OutputFormat)] =
    &[("table", OutputFormat::Table), ("json", OutputFormat::Json), ("people", OutputFormat::Human)];

/// Of `state`.
pub const STATE: &[(&str, OutputFormat)] = &[("json", OutputFormat::Json), ("people", OutputFormat::Human)];

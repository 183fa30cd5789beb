//! `.nspawn` settings files (systemd.nspawn(5)), for the keys that mean the same thing here.
//!
//! **Whose word counts.** A file in /etc/systemd/nspawn or /run/systemd/nspawn that nobody but root can write, and one
//! that the invoker names (`--settings=FILE`), is as good as the command line: it is parsed before privileges go, as
//! the policy is. A file found beside the root directory is the image author's as likely as anybody's: it is opened
//! before privileges go and parsed after, and keys that reach the host or add rights are left out with a note
//! (CVE-2026-40226 was a few keys that skipped this rule).
mod assign;
pub mod keys;
mod syntax;

use crate::prelude::*;

pub use assign::Settings;

/// Parses a settings file. A value that makes no sense is an error: a misspelt protection must not be none.
pub fn parse(text: &str, name: &str, trusted: bool) -> Result<Settings, String> {
    let entries = syntax::parse(text)?;
    assign::assign(&entries, name, trusted)
}

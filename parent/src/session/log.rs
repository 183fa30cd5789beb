//! Where errors go: stderr, and the file of `--log`, in runc's two forms, which clients parse.
//!
//! A failing command writes one entry and no more, which in JSON is one line: podman takes the file for one JSON
//! document, containerd takes the last line of level error, and both put stderr into their own messages. Warnings are
//! entries of commands that succeed. Without a file, a log in JSON is stderr.
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::json;

use crate::cli::Global;
use rspawn_host::streams;
use rspawn_planner::printable::printable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// The file that `--log` names. crun has other places for a log as well, and names each by what it is.
fn file_of(named: &Path) -> Result<&Path, String> {
    let bytes = named.as_os_str().as_bytes();
    match ["journald:", "syslog:"].iter().find(|place| bytes.starts_with(place.as_bytes())) {
        Some(place) => Err(format!(
            "--log: {} is not supported: rspawn does not log to {}, but to a file: PATH or file:PATH",
            named.display(),
            place.trim_end_matches(':')
        )),
        None => Ok(bytes.strip_prefix(b"file:").map_or(named, |path| Path::new(OsStr::from_bytes(path)))),
    }
}

/// Opened before privileges go.
pub struct Log {
    file: Option<File>,
    format: Format,
}

impl Log {
    pub fn open(global: &Global) -> Result<Self, String> {
        let format = match global.log_format.as_str() {
            "text" => Format::Text,
            "json" => Format::Json,
            other => return Err(format!("invalid log-format: {other}")),
        };
        let path = global.log.as_deref().map(file_of).transpose()?;
        let file = path.map(|path| {
            let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            opened.map_err(|error| format!("cannot open the log {}: {error}", path.display()))
        });
        Ok(Self { file: file.transpose()?, format })
    }

    /// Whether there is a file, which somebody keeps.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// The one entry of a command that failed.
    pub fn error(&mut self, message: &str) {
        let line = self.entry("error", message);
        match &mut self.file {
            Some(file) => drop(file.write_all(line.as_bytes())),
            None if self.format == Format::Json => return streams::say(line.trim_end()),
            None => {}
        }
        let lines: Vec<String> = message.lines().map(printable).collect();
        streams::say(format_args!("rspawn: {}", lines.join("\n")));
    }

    /// What a command that has succeeded would not do. For the file alone.
    pub fn warning(&mut self, message: &str) {
        let line = self.entry("warning", message);
        self.file.iter_mut().for_each(|file| drop(file.write_all(line.as_bytes())));
    }

    fn entry(&self, level: &str, message: &str) -> String {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        match self.format {
            Format::Json => format!("{}\n", json!({"level": level, "msg": message, "time": time})),
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
        }
    }
}

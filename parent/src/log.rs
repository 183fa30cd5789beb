//! Where errors go: stderr, and the file of `--log`, in runc's two forms, which clients parse.
//!
//! A failing command writes one line and no more: podman takes the file for one JSON document, containerd takes the
//! last line of level error, and both put stderr into their own messages. Without a file, a log in JSON is stderr.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use serde_json::json;

use crate::cli::Global;
use crate::show::colours::printable;
use crate::streams;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
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
        let file = global.log.as_ref().map(|path| {
            let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            opened.map_err(|error| format!("cannot open the log {}: {error}", path.display()))
        });
        Ok(Self { file: file.transpose()?, format })
    }

    /// The one line of a command that failed.
    pub fn error(&mut self, message: &str) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let line = match self.format {
            Format::Json => json!({"level": "error", "msg": message, "time": time}).to_string(),
            Format::Text => format!("time=\"{time}\" level=error msg={message:?}"),
        };
        match &mut self.file {
            Some(file) => drop(file.write_all(format!("{line}\n").as_bytes())),
            None if self.format == Format::Json => return streams::say(line),
            None => {}
        }
        let lines: Vec<String> = message.lines().map(printable).collect();
        streams::say(format_args!("rspawn: {}", lines.join("\n")));
    }
}

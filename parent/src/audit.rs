//! The audit log (`--audit FILE`): one JSON object a line, one line a step, whatever stage took it.
use std::fs::File;
use std::io::Write;
use std::time::Instant;

use rspawn_proto::plan::Plan;
use rspawn_proto::report::AuditRecord;
use serde_json::json;

use crate::describe;
use crate::drive::Reached;

/// The log, or nothing where none was asked for.
#[derive(Default)]
pub struct Audit(Option<File>);

impl Audit {
    pub fn new(file: Option<File>) -> Self {
        Self(file)
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Carries a whole command out, and gives its exit status. The last line says how it ended, wherever it failed.
    pub fn whole(self, command: impl FnOnce(Self) -> Result<Reached, String>) -> Result<i32, String> {
        let again = self.0.as_ref().map(File::try_clone).transpose();
        let mut last = Self(again.map_err(|error| format!("cannot keep the audit file open: {error}"))?);
        match command(self) {
            Ok(Reached::End(status)) => {
                last.end(Some(status), None);
                Ok(status)
            }
            Ok(Reached::Running) => {
                last.end(None, None);
                Ok(0)
            }
            Err(message) => {
                last.end(None, Some(&message));
                Err(message)
            }
        }
    }

    /// Times a step of the parent's own.
    pub fn step<T, E>(&mut self, op: &str, action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if self.0.is_none() {
            return action();
        }
        let began = Instant::now();
        let done = action();
        let microseconds = began.elapsed().as_micros() as u64;
        let result = if done.is_ok() { "ok" } else { "error" };
        self.write(
            json!({"stage": "rspawn", "phase": "parent", "op": op, "origin": "", "result": result, "us": microseconds}),
        );
        done
    }

    /// A step that a helper reports.
    pub fn record(&mut self, plan: Option<&Plan>, record: &AuditRecord) {
        if self.0.is_none() {
            return;
        }
        let place = record.place;
        let (origin, op) = match plan {
            Some(plan) => (describe::origin(plan, place), describe::action(plan, place)),
            None => (String::new(), describe::phase(place).to_string()),
        };
        let result = if record.errno == 0 { "ok".to_string() } else { describe::errno(record.errno) };
        self.write(json!({
            "stage": describe::stage(place), "phase": describe::phase(place), "op": op, "origin": origin,
            "result": result, "us": record.microseconds,
        }));
    }

    /// How it ended: the payload's status, or the runtime's failure, which no exit status can be mistaken for.
    fn end(&mut self, payload_status: Option<i32>, failure: Option<&str>) {
        self.write(json!({
            "stage": "rspawn", "phase": "end", "op": "exit", "origin": "", "result": failure.unwrap_or("ok"),
            "payload_status": payload_status,
        }));
    }

    fn write(&mut self, line: serde_json::Value) {
        if let Some(file) = &mut self.0 {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}

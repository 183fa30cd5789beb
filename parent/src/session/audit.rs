//! The audit log (`--audit FILE`): one JSON object a line. The first line says what is audited; then a line for each step,
//! whatever stage took it; the last line says how it ended.
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rspawn_proto::codec;
use rspawn_proto::plan::Plan;
use rspawn_proto::policy::Violation;
use rspawn_proto::report::AuditRecord;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::run_outcome::RunOutcome;
use rspawn_report::describe;

/// The log, or nothing where none was asked for.
#[derive(Default)]
pub struct Audit(Option<Rc<RefCell<Log>>>);

struct Log {
    file: File,
    /// When the command began, by the wall clock: every line counts from here.
    began: SystemTime,
    first: First,
    /// Lines that were taken before all of the first one was known.
    waiting: Option<Vec<Value>>,
}

/// What tells one run from another.
#[derive(Default)]
struct First {
    verb: &'static str,
    /// Asked for at once: the line is written by a process that may no longer ask.
    invoker: u32,
    id: String,
    config: Option<String>,
    plan: Option<String>,
}

impl Audit {
    pub fn new(file: Option<File>, verb: &'static str) -> Self {
        let first = First { verb, invoker: nix::unistd::getuid().as_raw(), ..First::default() };
        let log = |file| Log { file, began: SystemTime::now(), first, waiting: Some(Vec::new()) };
        Self(file.map(|file| Rc::new(RefCell::new(log(file)))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Carries a whole command out, and gives its exit status. The last line says how it ended, wherever it failed.
    pub fn whole(self, command: impl FnOnce(Self) -> Result<RunOutcome, String>) -> Result<i32, String> {
        let last = Self(self.0.clone());
        match command(self) {
            Ok(RunOutcome::Exited(status)) => {
                last.end(Some(status), None);
                Ok(status)
            }
            Ok(RunOutcome::Detached) => {
                last.end(None, None);
                Ok(0)
            }
            Err(message) => {
                last.end(None, Some(&message));
                Err(message)
            }
        }
    }

    pub fn set_id(&self, id: &str) {
        self.with(|log| log.first.id = id.to_string());
    }

    /// The configuration, as the bundle has it.
    pub fn set_config(&self, bytes: &[u8]) {
        self.with(|log| log.first.config = Some(sha256(bytes)));
    }

    /// The plan, as rspawn-setup gets it: with it, all of the first line is known.
    pub fn set_plan(&self, plan: &Plan) {
        self.with(|log| {
            log.first.plan = codec::encode(plan).map(|bytes| sha256(&bytes));
            log.flush();
        });
    }

    /// Times a step of the parent's own.
    pub fn step<T, E>(&self, op: &str, action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if self.0.is_none() {
            return action();
        }
        let (at, began) = (SystemTime::now(), Instant::now());
        let done = action();
        let microseconds = began.elapsed().as_micros() as u64;
        let result = if done.is_ok() { "ok" } else { "error" };
        self.with(|log| {
            let line = json!({"stage": "rspawn", "phase": "parent", "op": op, "origin": "", "result": result,
                "us": microseconds});
            log.write(since(UNIX_EPOCH, at), line);
        });
        done
    }

    /// A step that a helper reports.
    pub fn record(&self, plan: Option<&Plan>, record: &AuditRecord) {
        self.with(|log| {
            let place = record.place;
            let (origin, op) = match plan {
                Some(plan) => (rspawn_planner::origin::origin(plan, place), describe::action(plan, place)),
                None => (String::new(), describe::phase(place).to_string()),
            };
            let result = if record.errno == 0 { "ok".to_string() } else { describe::errno(record.errno) };
            let line = json!({
                "stage": describe::stage(place), "phase": describe::phase(place), "op": op, "origin": origin,
                "result": result, "us": record.microseconds,
            });
            log.write(record.began, line);
        });
    }

    /// What a policy would have refused, and what was left out.
    pub fn warning(&self, violation: &Violation) {
        self.with(|log| {
            let line = json!({
                "stage": "rspawn-setup", "phase": "policy", "op": describe::violation(violation),
                "origin": violation.origin, "result": "warning", "rule": violation.rule,
            });
            log.write(since(UNIX_EPOCH, SystemTime::now()), line);
        });
    }

    /// How it ended: the payload's status, or the runtime's failure, which no exit status can be mistaken for.
    fn end(&self, payload_status: Option<i32>, failure: Option<&str>) {
        self.with(|log| {
            log.flush();
            let line = json!({
                "stage": "rspawn", "phase": "end", "op": "exit", "origin": "", "result": failure.unwrap_or("ok"),
                "payload_status": payload_status,
            });
            log.write(since(UNIX_EPOCH, SystemTime::now()), line);
        });
    }

    fn with(&self, act: impl FnOnce(&mut Log)) {
        if let Some(log) = &self.0 {
            act(&mut log.borrow_mut());
        }
    }
}

impl Log {
    /// `began`: microseconds since 1970.
    fn write(&mut self, began: u64, mut line: Value) {
        line["id"] = self.first.id.as_str().into();
        line["at"] = began.saturating_sub(since(UNIX_EPOCH, self.began)).into();
        match &mut self.waiting {
            Some(waiting) => waiting.push(line),
            None => self.put(&line),
        }
    }

    /// Writes the first line, once, and what has waited for it.
    fn flush(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        let First { verb, invoker, id, config, plan } = &self.first;
        let first = json!({
            "stage": "rspawn", "phase": "begin", "op": verb, "origin": "", "result": "ok", "us": 0, "at": 0, "id": id,
            "time": humantime::format_rfc3339_micros(self.began).to_string(),
            "invoker": invoker, "version": env!("CARGO_PKG_VERSION"),
            "config_sha256": config, "plan_sha256": plan,
        });
        self.put(&first);
        for mut line in waiting {
            // It was not known yet when the first of them were taken.
            line["id"] = self.first.id.as_str().into();
            self.put(&line);
        }
    }

    fn put(&mut self, line: &Value) {
        // What cannot be logged, on a full disk, ends no container; the log's last line is missing then.
        let _: io::Result<()> = self.file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Microseconds; 0 where the clock was set back meanwhile.
fn since(from: SystemTime, to: SystemTime) -> u64 {
    to.duration_since(from).map_or(0, |time| time.as_micros() as u64)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens the file that `--audit=` names, for appending.
pub fn open(path: Option<&Path>, verb: &'static str) -> Result<Audit, String> {
    let open = |path: &Path| -> Result<File, String> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("cannot open the audit file {}: {error}", path.display()))
    };
    path.map(open).transpose().map(|file| Audit::new(file, verb))
}

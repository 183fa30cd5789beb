//! What the console's lines say about the tests.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::suite::Job;

/// What every line of a test that cannot run begins with.
const SKIPPED: &str = "SKIPPED: ";

#[derive(Default)]
pub struct Report {
    /// Tests, as PROGRAM::TEST.
    passed: Vec<String>,
    failed: Vec<String>,
    /// Of those that passed, which left something out.
    incomplete: BTreeSet<String>,
    /// Reasons for that, and how often each was given.
    reasons: BTreeMap<String, usize>,
    /// Programs by name, with their status.
    ended: Vec<(String, String)>,
    done: bool,
}

/// Reads what the machine said.
pub fn read(console: &[String]) -> Report {
    let mut report = Report::default();
    let (mut running, mut begun) = (String::new(), String::new());
    for line in console {
        let line = std::mem::take(&mut begun) + line;
        // A reason comes as a whole line, but may come where another thread has written half of one.
        if let Some((before, reason)) = line.split_once(SKIPPED) {
            report.skipped(&running, reason);
            begun = before.to_string();
        } else if let Some(name) = line.strip_prefix("vm: run ") {
            running = name.to_string();
        } else if let Some(ended) = line.strip_prefix("vm: status ") {
            let mut words = ended.split(' ').map(str::to_string);
            let ended = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            report.failed.extend(status_without_a_name(&ended, &report.failed));
            report.ended.push(ended);
        } else if line == "vm: done" {
            report.done = true;
        } else {
            report.line(&running, &line);
        }
    }
    report
}

impl Report {
    /// Prints the counts; true if every program ran, and every test that ran passed.
    pub fn summary(&self, jobs: &[Job], took: Duration) -> bool {
        let mut failures = self.failed.clone();
        for job in jobs {
            match self.ended.iter().find(|(name, _)| *name == job.name) {
                None => failures.push(format!("{}: never came to its end", job.name)),
                // libtest's 101 is in the tests' own lines already.
                Some((_, status)) if status == "0" || status == "101" => {}
                Some((_, status)) => failures.push(format!("{}: status {status}", job.name)),
            }
        }
        if !self.done {
            failures.push("the machine did not come to its end".into());
        }
        println!();
        for (reason, times) in &self.reasons {
            println!("vm: skipped {times} times: {reason}");
        }
        failures.iter().for_each(|failure| println!("vm: FAILED: {failure}"));
        let good = failures.is_empty() && !self.passed.is_empty();
        let word = if good { "ok" } else { "FAILED" };
        let (passed, failed, seconds) = (self.passed.len(), failures.len(), took.as_secs());
        println!("vm: test result: {word}. {passed} passed; {failed} failed; in {} programs, {seconds} s", jobs.len());
        good
    }

    /// Appends the names of the tests that ran, and left nothing out, to a file.
    pub fn note_ran(&self, file: &Path) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(file)?;
        let whole = self.passed.iter().filter(|name| !self.incomplete.contains(*name));
        whole.into_iter().try_for_each(|name| writeln!(file, "{name}"))
    }

    /// `PROGRAM::TEST: why`, or why alone where the test has no name.
    fn skipped(&mut self, running: &str, line: &str) {
        let named = line.split_once(": ").filter(|(name, _)| name.contains("::") && !name.contains(' '));
        let (name, reason) = named.unwrap_or((running, line));
        // These are for this machine: a lane that runs nothing must not look like one that passes.
        if running.starts_with("vm_") {
            self.failed.push(format!("{name}: skipped: {reason}"));
        }
        self.incomplete.insert(name.to_string());
        *self.reasons.entry(reason.to_string()).or_default() += 1;
    }

    /// A line of a test program's.
    fn line(&mut self, running: &str, line: &str) {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) else {
            return;
        };
        let name = format!("{running}::{name}");
        match outcome {
            "ok" => self.passed.push(name),
            "FAILED" => self.failed.push(name),
            _ => {}
        }
    }
}

/// A program that says that tests failed, none of which was read.
fn status_without_a_name((name, status): &(String, String), failed: &[String]) -> Option<String> {
    let named = failed.iter().any(|failure| failure.starts_with(&format!("{name}::")));
    (status == "101" && !named).then(|| format!("{name}: some test of it"))
}

//! What the console's lines say about the tests.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::suite::Job;

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: Vec<String>,
    /// Reasons, and how often each was given.
    skipped: BTreeMap<String, usize>,
    /// Programs by name, with their status.
    ended: Vec<(String, String)>,
    done: bool,
}

/// Prints the counts; true if every program ran, and every test that ran passed.
pub fn summary(jobs: &[Job], console: &[String], took: Duration) -> bool {
    let counts = count(console);
    let mut failures = counts.failed;
    for job in jobs {
        match counts.ended.iter().find(|(name, _)| *name == job.name) {
            None => failures.push(format!("{}: never came to its end", job.name)),
            // libtest's 101 is in the tests' own lines already.
            Some((_, status)) if status == "0" || status == "101" => {}
            Some((_, status)) => failures.push(format!("{}: status {status}", job.name)),
        }
    }
    if !counts.done {
        failures.push("the machine did not come to its end".into());
    }
    println!();
    for (reason, times) in &counts.skipped {
        println!("SKIPPED: {reason} ({times} times, in the virtual machine)");
    }
    failures.iter().for_each(|failure| println!("vm: FAILED: {failure}"));
    let good = failures.is_empty() && counts.passed > 0;
    let word = if good { "ok" } else { "FAILED" };
    let (passed, failed, seconds) = (counts.passed, failures.len(), took.as_secs());
    println!("vm: test result: {word}. {passed} passed; {failed} failed; in {} programs, {seconds} s", jobs.len());
    good
}

impl Counts {
    /// A line of a test program's. Two threads may have written into one: the reason of one test, the result of another.
    fn line(&mut self, running: &str, line: &str) {
        let (before, test) = match line.rfind("test ") {
            Some(at) if line.contains(" ... ") => line.split_at(at),
            _ => (line, ""),
        };
        if let Some((_, reason)) = before.split_once("SKIPPED: ") {
            // These are for this machine: a lane that runs nothing must not look like one that passes.
            if running.starts_with("vm_") {
                self.failed.push(format!("{running}: skipped: {reason}"));
            }
            *self.skipped.entry(reason.to_string()).or_default() += 1;
        }
        match test.rsplit_once(" ... ") {
            Some((_, "ok")) => self.passed += 1,
            Some((name, "FAILED")) => self.failed.push(format!("{running}::{}", name.trim_start_matches("test "))),
            _ => {}
        }
    }
}

fn count(console: &[String]) -> Counts {
    let mut counts = Counts::default();
    let mut running = String::new();
    for line in console {
        if let Some(name) = line.strip_prefix("vm: run ") {
            running = name.to_string();
        } else if let Some(ended) = line.strip_prefix("vm: status ") {
            let mut words = ended.split(' ').map(str::to_string);
            let ended = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            counts.failed.extend(status_without_a_name(&ended, &counts.failed));
            counts.ended.push(ended);
        } else if line == "vm: done" {
            counts.done = true;
        } else {
            counts.line(&running, line);
        }
    }
    counts
}

/// A program that says that tests failed, none of which was read.
fn status_without_a_name((name, status): &(String, String), failed: &[String]) -> Option<String> {
    let named = failed.iter().any(|failure| failure.starts_with(&format!("{name}::")));
    (status == "101" && !named).then(|| format!("{name}: some test of it"))
}

//! Wall time from spawn to wait, round-robin, so that whatever slows the machine down slows all alike.
use std::time::{Duration, Instant};

use crate::contestants::{self, BWRAP, Contestant, FLOOR, Ground, RSPAWN, RUNC};
use crate::{headline, skipped};

/// Rounds that are not counted.
const WARM_UP: usize = 5;

/// What the project wants to reach: the most that rspawn may take, as a multiple of another's median.
const GOALS: [(&str, f64); 3] = [(FLOOR, 1.6), (BWRAP, 1.1), (RUNC, 0.22)];

pub struct Measured {
    name: &'static str,
    /// Sorted.
    samples: Vec<Duration>,
}

impl Measured {
    pub fn new(name: &'static str, mut samples: Vec<Duration>) -> Self {
        samples.sort();
        Self { name, samples }
    }

    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.samples.len() - 1) * percent / 100;
        self.samples[index].as_secs_f64() * 1e3
    }

    fn median(&self) -> f64 {
        self.percentile(50)
    }
}

pub fn time_section(ground: &Ground, runs: usize) {
    headline(&format!("time of `run` with /bin/true, milliseconds, {runs} interleaved runs of each"));
    let (contestants, missing) = contestants::all(ground);
    for (name, reason) in &missing {
        skipped(name, reason);
    }
    let measured = measure(contestants, runs);
    print_table(&measured);
    print_goals(&measured);
}

pub fn measure(mut contestants: Vec<Contestant>, runs: usize) -> Vec<Measured> {
    let mut all: Vec<Measured> =
        contestants.iter().map(|one| Measured { name: one.name, samples: Vec::with_capacity(runs) }).collect();
    for round in 0..WARM_UP + runs {
        for (contestant, measured) in contestants.iter_mut().zip(&mut all) {
            let took = run_once(contestant);
            if round >= WARM_UP {
                measured.samples.extend(took);
            }
        }
    }
    all.iter_mut().for_each(|one| one.samples.sort());
    all.retain(|one| !one.samples.is_empty());
    all
}

/// `None`, and a line that says so, if it failed.
fn run_once(contestant: &mut Contestant) -> Option<Duration> {
    let began = Instant::now();
    let status = contestant.command.status();
    let took = began.elapsed();
    match status {
        Ok(status) if status.success() => Some(took),
        other => {
            println!("  a run of {} failed: {other:?}", contestant.name);
            None
        }
    }
}

pub fn median_of(measured: &[Measured], name: &str) -> Option<f64> {
    measured.iter().find(|one| one.name == name && !one.samples.is_empty()).map(Measured::median)
}

pub fn print_table(measured: &[Measured]) {
    print_table_beside(measured, RSPAWN);
}

/// With each one's share of what `base` takes.
pub fn print_table_beside(measured: &[Measured], base: &str) {
    let rspawn = median_of(measured, base).unwrap_or(f64::NAN);
    println!("  {:<34} {:>8} {:>8} {:>8}   {base} takes", "", "median", "p10", "p90");
    for one in measured.iter().filter(|one| !one.samples.is_empty()) {
        let ratio = rspawn / one.median();
        let (median, low, high) = (one.median(), one.percentile(10), one.percentile(90));
        println!("  {:<34} {median:>8.3} {low:>8.3} {high:>8.3}   {ratio:>6.2} x", one.name);
    }
}

fn print_goals(measured: &[Measured]) {
    let Some(rspawn) = median_of(measured, RSPAWN) else { return };
    for (name, most) in GOALS {
        let Some(other) = median_of(measured, name) else { continue };
        let ratio = rspawn / other;
        let verdict = if ratio <= most { "reached" } else { "missed" };
        println!("  goal: at most {most} x {name}: {ratio:.2} x, {verdict}");
    }
}

//! Where the time goes, as `rspawn run --audit FILE` reports it. Reporting itself costs time: compare steps with each
//! other, not with the total.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::contestants::Ground;
use crate::headline;

const SHOWN: usize = 8;

/// Stage, phase, operation and origin of a step, and its place in its run.
type Step = (usize, String, String);

pub fn phases_section(ground: &Ground, runs: usize) {
    headline(&format!("time of each step, microseconds, medians of {runs} audited runs"));
    let file = ground.bundle.path().join("audit");
    let mut samples: BTreeMap<Step, Vec<u64>> = BTreeMap::new();
    for _ in 0..runs {
        let _ = fs::remove_file(&file);
        let status = ground.rspawn().arg("--audit").arg(&file).status();
        if !status.is_ok_and(|status| status.success()) {
            return println!("  an audited run failed");
        }
        read(&file, &mut samples);
    }
    let medians: Vec<(Step, u64)> = samples.into_iter().map(|(step, times)| (step, median(times))).collect();
    print_sums(&medians);
    print_slowest(medians);
}

fn read(file: &Path, samples: &mut BTreeMap<Step, Vec<u64>>) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for (index, record) in records.enumerate() {
        let Some(microseconds) = record["us"].as_u64() else { continue };
        let word = |key: &str| record[key].as_str().unwrap_or_default().to_string();
        let phase = format!("{}, {}", word("stage"), word("phase"));
        samples.entry((index, phase, word("op"))).or_default().push(microseconds);
    }
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn print_sums(medians: &[(Step, u64)]) {
    let mut phases: Vec<(&str, u64, usize)> = Vec::new();
    for ((_, phase, _), microseconds) in medians {
        match phases.iter_mut().find(|(name, ..)| name == phase) {
            Some((_, sum, steps)) => (*sum, *steps) = (*sum + microseconds, *steps + 1),
            None => phases.push((phase, *microseconds, 1)),
        }
    }
    for (phase, sum, steps) in phases {
        println!("  {phase:<34} {sum:>8} in {steps} steps");
    }
}

fn print_slowest(mut medians: Vec<(Step, u64)>) {
    medians.sort_by_key(|(_, microseconds)| std::cmp::Reverse(*microseconds));
    println!("  the slowest:");
    for ((_, phase, op), microseconds) in medians.into_iter().take(SHOWN) {
        println!("  {microseconds:>8}  {phase}: {op}");
    }
}

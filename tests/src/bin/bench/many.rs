//! Many containers: a thousand one after another, then two hundred alive at once, with each runtime.
use std::fs;
use std::time::Instant;

use nix::unistd::Pid;

use crate::life_cycle::Runtime;
use crate::processes::{descendants, kilobytes_or_number};
use crate::{headline, skipped};

const IN_A_ROW: usize = 1000;
const AT_ONCE: usize = 200;

pub fn many_section() {
    headline(&format!("{IN_A_ROW} containers one after another, then {AT_ONCE} alive at once"));
    let (runtimes, missing) = Runtime::all();
    for (name, reason) in &missing {
        skipped(name, reason);
    }
    for runtime in &runtimes {
        println!("  {}", runtime.name);
        let done = one_after_another(runtime).and_then(|()| alive_at_once(runtime));
        if let Err(reason) = done {
            println!("    FAILED: {reason}");
        }
    }
}

fn one_after_another(runtime: &Runtime) -> Result<(), String> {
    let began = Instant::now();
    for number in 0..IN_A_ROW {
        runtime.live(&format!("row{number}"))?;
    }
    let took = began.elapsed().as_secs_f64();
    let each = took * 1e3 / IN_A_ROW as f64;
    println!("    {IN_A_ROW} in a row:      {took:>8.2} s, {each:.2} ms each");
    print_left(runtime, (0..IN_A_ROW).map(|number| runtime.id(&format!("row{number}"))));
    Ok(())
}

fn alive_at_once(runtime: &Runtime) -> Result<(), String> {
    let ids: Vec<String> = (0..AT_ONCE).map(|number| runtime.id(&format!("alive{number}"))).collect();
    let mut alive: Vec<(&String, Pid)> = Vec::new();
    let began = Instant::now();
    let mut failure = None;
    for id in &ids {
        match runtime.bring_up(id) {
            Ok((pid, _)) => alive.push((id, pid)),
            Err(reason) => {
                failure = Some(reason);
                break;
            }
        }
    }
    println!("    {:>4} started:        {:>8.2} s", alive.len(), began.elapsed().as_secs_f64());
    print_memory(alive.len());
    let began = Instant::now();
    for (id, pid) in &alive {
        // One that cannot be taken down is no reason to leave the others running.
        if let Err(reason) = runtime.take_down(id, *pid) {
            failure.get_or_insert(reason);
            runtime.give_up(id);
        }
    }
    println!("    {:>4} killed:         {:>8.2} s", alive.len(), began.elapsed().as_secs_f64());
    print_left(runtime, ids.iter().cloned());
    failure.map_or(Ok(()), Err)
}

/// Proportional set size of every process that stays, the payloads apart: all of them are this process's to wait for.
fn print_memory(containers: usize) {
    let (mut runtime, mut payload, mut processes) = (0, 0, 0);
    for pid in descendants(std::process::id()) {
        let share = kilobytes_or_number(pid, "smaps_rollup", "Pss").unwrap_or(0);
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == "sleep" {
            payload += share;
        } else {
            processes += 1;
            runtime += share;
        }
    }
    let each = |kilobytes: u64| kilobytes as f64 / containers.max(1) as f64;
    println!("    that stay, beside payloads: {processes} processes, {:.1} kB a container", each(runtime));
    println!("    the payload itself:         {:.1} kB a container", each(payload));
}

fn print_left(runtime: &Runtime, ids: impl Iterator<Item = String>) {
    let left = runtime.left_behind(&ids.collect::<Vec<_>>());
    match left.as_slice() {
        [] => println!("    left afterwards:      nothing"),
        some => println!("    LEFT afterwards:      {} things, such as {}", some.len(), some[0]),
    }
}

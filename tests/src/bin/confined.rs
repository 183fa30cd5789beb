//! Confines itself as rspawn's parent does, or, where the first word is `worker`, as its worker does, then makes the one
//! system call that its arguments name: a number, and up to six arguments; `empty` and `dot` are the addresses of the
//! two paths that the worker's filter knows. Says `survived` and the result if it lives to tell.
use std::io::Write;

use rspawn_proto::plan::Plan;
use rspawn_sys::fixed_path;

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let as_worker = words.first().is_some_and(|word| word == "worker");
    if as_worker {
        words.remove(0);
    }
    let number = |word: &String| match word.as_str() {
        "empty" => fixed_path::empty() as i64,
        "dot" => fixed_path::dot() as i64,
        word => word.parse().expect("a number"),
    };
    let numbers: Vec<i64> = words.iter().map(number).collect();
    let argument = |index: usize| numbers.get(index).copied().unwrap_or(0);
    // A signal mask that would hold a SIGSYS back must not matter.
    if as_worker {
        rspawn_setup::worker::confine(&plan(), false).expect("to be confined");
    } else {
        rspawn_host::sandbox::confine().expect("to be confined");
    }
    if numbers.is_empty() {
        // Held where a test can look at it.
        let mut byte = [0u8];
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut byte);
        return;
    }
    // SAFETY: the test passes null pointers and impossible descriptors: the kernel refuses, or kills, or answers with
    // an error. What ends the process or blocks for ever is the test's to leave out.
    let result = unsafe {
        libc::syscall(argument(0), argument(1), argument(2), argument(3), argument(4), argument(5), argument(6))
    };
    let _ = writeln!(std::io::stdout(), "survived {result}");
    // What the standard library does at its end is not the worker's to do.
    rspawn_sys::process::exit(0);
}

/// The plan of the default configuration.
fn plan() -> Plan {
    let config = serde_json::to_value(rspawn_planner::default_spec::default_spec(false)).expect("a configuration");
    rspawn_tests::hostile::plan_of(&config, "confined", std::path::Path::new("/"))
}

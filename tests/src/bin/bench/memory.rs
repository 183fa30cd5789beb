//! Memory: the peak of each stage, and what an init holds while its payload sleeps.
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rspawn_tests::{Bundle, program};

use crate::contestants::{find_program, quiet};
use crate::processes::{children, first_child, kilobytes_or_number};
use crate::{headline, skipped};

pub fn memory_section() {
    headline("memory, kB");
    stages();
    println!("  idle init beside `sleep`:          VmRSS      Pss  RssAnon");
    standalone("rspawn-init --", &program("rspawn-init"), &["--"]);
    for (name, arguments) in [("tini", &["-s", "--"][..]), ("tini-static", &["-s", "--"]), ("catatonit", &["--"])] {
        match find_program(name) {
            Some(path) => standalone(name, &path, &[arguments, &[]].concat()),
            None => skipped(name, "not installed"),
        }
    }
}

/// The stages of a container whose payload sleeps, then its init's idle memory.
fn stages() {
    let bundle = Bundle::new().with_args(&["/bin/sleep", "1000"]);
    let Ok(mut rspawn) = quiet(bundle.command(&[])).spawn() else { return skipped("stages", "rspawn does not start") };
    let found = first_child(rspawn.id()).and_then(|setup| {
        let init = payload_parent(setup)?;
        Some((setup, init))
    });
    match found {
        Some((setup, init)) => {
            println!("  peak of each stage:                VmHWM");
            for (name, pid) in [("rspawn", rspawn.id()), ("rspawn-setup", setup), ("rspawn-init", init)] {
                println!("    {name:<30} {:>7}", shown(kilobytes_or_number(pid, "status", "VmHWM")));
            }
            println!("  idle init of that container:       VmRSS      Pss  RssAnon");
            print_idle("rspawn-init, supervising", init);
        }
        None => skipped("stages", "no payload appeared"),
    }
    end(&mut rspawn);
}

/// The child of rspawn-setup that has a child of its own: rspawn-init, once the payload runs.
fn payload_parent(setup: u32) -> Option<u32> {
    for _ in 0..500 {
        let init = children(setup).into_iter().find(|pid| !children(*pid).is_empty());
        if init.is_some() {
            std::thread::sleep(Duration::from_millis(100));
            return init;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn standalone(name: &str, path: &Path, arguments: &[&str]) {
    let started = quiet(Command::new(path)).args(arguments).args(["/bin/sleep", "1000"]).spawn();
    let Ok(mut init) = started else { return skipped(name, "it does not start") };
    match first_child(init.id()) {
        Some(_) => {
            std::thread::sleep(Duration::from_millis(100));
            print_idle(name, init.id());
        }
        None => skipped(name, "it started no payload"),
    }
    end(&mut init);
}

fn print_idle(name: &str, pid: u32) {
    let resident = shown(kilobytes_or_number(pid, "status", "VmRSS"));
    let share = shown(kilobytes_or_number(pid, "smaps_rollup", "Pss"));
    let anonymous = shown(kilobytes_or_number(pid, "status", "RssAnon"));
    println!("    {name:<30} {resident:>7}  {share:>7}  {anonymous:>7}");
}

fn shown(kilobytes: Option<u64>) -> String {
    kilobytes.map_or_else(|| "?".into(), |number| number.to_string())
}

/// Ends a program that was started here, and its payload with it.
fn end(child: &mut Child) {
    let payloads = children(child.id());
    let _ = child.kill();
    let _ = child.wait();
    for pid in payloads {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
}

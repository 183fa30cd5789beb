//! BPF instructions that the kernel executes at each of the payload's system calls, under podman's default profile.
use rspawn_planner::oci::seccomp::Seccomp;
use rspawn_planner::seccomp::eval::{self, SeccompData};
use rspawn_planner::seccomp::{Arch, Insn, Options, compile};
use rspawn_tests::podman_profile::{PODMAN_CAPS, PODMAN_PROFILE, oci_form};

use crate::{headline, skipped};

const CALLS: [&str; 6] = ["read", "openat", "close", "futex", "write", "epoll_wait"];

struct Filter {
    name: &'static str,
    program: Vec<Insn>,
}

pub fn seccomp_section() {
    headline("BPF instructions executed for a system call, podman's default profile");
    let text = match std::fs::read_to_string(PODMAN_PROFILE) {
        Ok(text) => text,
        Err(error) => return skipped("seccomp", &format!("{PODMAN_PROFILE}: {error}")),
    };
    let profile = oci_form(&text, PODMAN_CAPS, Arch::X86_64);
    let mut filters = Vec::new();
    match compile(&profile, Arch::X86_64, &Options::default()) {
        Ok(compiled) => filters.push(Filter { name: "rspawn", program: compiled.program }),
        Err(problems) => skipped("rspawn", &format!("{problems:?}")),
    }
    filters.extend(libseccomps(&profile));
    print_table(&filters);
}

#[cfg(feature = "libseccomp")]
fn libseccomps(profile: &Seccomp) -> Vec<Filter> {
    // runc and crun ask for the tree; it is libseccomp's default that is linear.
    let kinds = [("libseccomp", false), ("its tree", true)];
    let build = |(name, tree): (&'static str, bool)| {
        let program = crate::support::libseccomp(profile, Arch::X86_64, tree);
        program.map(|program| Filter { name, program }).map_err(|error| skipped(name, &error)).ok()
    };
    kinds.into_iter().filter_map(build).collect()
}

#[cfg(not(feature = "libseccomp"))]
fn libseccomps(_: &Seccomp) -> Vec<Filter> {
    skipped("libseccomp", "run with --features libseccomp");
    Vec::new()
}

fn print_table(filters: &[Filter]) {
    let row = |name: &str, cells: Vec<String>| println!("  {name:<20}{}", cells.concat());
    let cells = |show: &dyn Fn(&Filter) -> String| filters.iter().map(|one| format!("{:>12}", show(one))).collect();
    row("", cells(&|filter| filter.name.to_string()));
    for call in CALLS {
        row(call, cells(&|filter| executed(filter, call)));
    }
    row("length of the program", cells(&|filter| filter.program.len().to_string()));
}

fn executed(filter: &Filter, call: &str) -> String {
    let Some(nr) = Arch::X86_64.number(call) else { return "?".into() };
    let data = SeccompData { nr, arch: Arch::X86_64.audit(), ..SeccompData::default() };
    eval::run(&filter.program, &data).map_or_else(|error| format!("{error:?}"), |(_, steps)| steps.to_string())
}

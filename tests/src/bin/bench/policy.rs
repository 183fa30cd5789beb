//! What a policy costs: `run` under one of fifty rules beside `run` without, and the run of the filter by itself.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rspawn_planner::seccomp::{Arch, Options, compile};
use rspawn_proto::filter;
use rspawn_tests::podman_profile::{PODMAN_CAPS, PODMAN_PROFILE, oci_form};
use rspawn_tests::{Bundle, Scratch, program};

use crate::contestants::{Contestant, quiet, works};
use crate::time::{measure, median_of, print_table_beside};
use crate::{headline, skipped};

const BARE: &str = "rspawn, no policy";
const RULES: &str = "rspawn, fifty rules";
/// Microseconds.
const GOAL: f64 = 50.0;

pub fn policy_section(runs: usize) {
    headline(&format!("cost of a policy: time of `run` with /bin/true, milliseconds, {runs} interleaved runs of each"));
    let bundle = Bundle::new().with_args(&["/bin/true"]);
    bundle.write_config();
    let scratch = Scratch::new();
    let file = |name: &str, text: String| {
        let path = scratch.path.join(name);
        fs::write(&path, text).expect("a policy");
        path
    };
    let files = [(BARE, file("off", "mode = off\n".into())), (RULES, file("rules", fifty_rules(bundle.path())))];
    let mut contestants = Vec::new();
    for (name, path) in &files {
        match works(command(&bundle, path)) {
            Ok(command) => contestants.push(Contestant { name, command }),
            Err(reason) => skipped(name, &reason),
        }
    }
    let measured = measure(contestants, runs);
    print_table_beside(&measured, BARE);
    if let (Some(bare), Some(rules)) = (median_of(&measured, BARE), median_of(&measured, RULES)) {
        let cost = (rules - bare) * 1000.0;
        let verdict = if cost <= GOAL { "reached" } else { "MISSED" };
        println!("  fifty rules cost {cost:.0} us (goal: {GOAL:.0} us, {verdict})");
    }
    filter_line();
}

fn command(bundle: &Bundle, policy: &Path) -> Command {
    let mut command = Command::new(program("rspawn"));
    command.arg("--root").arg(bundle.state_root()).arg("run").arg(format!("--policy={}", policy.display()));
    command.arg("--bundle").arg(bundle.path()).arg(&bundle.id);
    quiet(command)
}

/// Rules of every kind; half of them are of paths.
fn fifty_rules(bundle: &Path) -> String {
    let mut text = format!("mode = enforce\nseccomp = allowed\nbind.allow = {}/**\n", bundle.display());
    for index in 0..12 {
        text += &format!("bind.allow = /srv/volumes/{index}/**\n");
        text += &format!("bind.deny = /etc/secret{index} /run/socket{index}\n");
    }
    text += "devices.allow = c 1:3 c 1:5 c 1:7 c 1:8 c 1:9 c 5:0 c 5:2 c 136:*\n";
    text + "sysctl.allow = net.*\njoin.allow = /run/netns/**\nhooks.allow = none\n"
}

/// The filter of podman's default profile, through every call that it must deny.
fn filter_line() {
    let Ok(text) = fs::read_to_string(PODMAN_PROFILE) else {
        return skipped("the run of a filter", &format!("{PODMAN_PROFILE} is not there"));
    };
    let profile = oci_form(&text, PODMAN_CAPS, Arch::X86_64);
    let Ok(compiled) = compile(&profile, Arch::X86_64, &Options::default()) else {
        return skipped("the run of a filter", "podman's profile does not compile");
    };
    let calls = rspawn_planner::policy::parse("").expect("the default policy").policy.must_deny;
    let mut times: Vec<u128> = (0..50)
        .map(|_| {
            let began = Instant::now();
            let denied = calls
                .iter()
                .filter(|call| filter::may_allow(&compiled.program, Some(call.number), Some(call.arch)) == Ok(false));
            assert_eq!(denied.count(), calls.len(), "podman's profile denies them all");
            began.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    println!("  the run of podman's filter, {} calls: {} us", calls.len(), times[times.len() / 2]);
}

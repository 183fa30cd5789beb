//! `rspawn run`: streams, exit status, signals.
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rspawn_tests::{Bundle, Lines, cannot_make_containers, collect};

rspawn_tests::also_as_an_ordinary_user!();

#[test]
fn streams_and_exit_status_come_through() {
    if cannot_make_containers() {
        return;
    }
    let output = Bundle::script("cat; echo to stderr >&2; exit 7").run_with(&[], b"from stdin\n");
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "from stdin\n", "to stderr\n"));
}

#[test]
fn death_by_a_signal_is_128_and_the_signal() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(Bundle::script("kill -9 $$").run().status, 137);
    assert_eq!(Bundle::script("kill -TERM $$").run_with(&["--init=supervise"], b"").status, 143);
}

#[test]
fn signals_reach_the_payload() {
    if cannot_make_containers() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH]
    {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'echo got {name}; exit 0' {name}; echo ready; while :; do sleep 0.05; done");
        let bundle = Bundle::script(&script);
        let mut child = bundle.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = Lines::of(&mut child);
        assert_eq!(lines.next().unwrap(), "ready");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(lines.next().unwrap(), format!("got {name}"));
        assert_eq!(collect(child).status, 0);
        bundle.assert_nothing_left();
    }
}

//! podman's exit codes when a container or a command does not start: it reads the runtime's words to tell them apart.
use rspawn_tests::podman::{Errors, Podman};

/// Payloads that cannot be executed, podman's exit code for each, and a word that a person needs.
const UNSTARTABLE: [(&str, i32, &str); 6] = [
    ("no-such-program", 127, "no-such-program"),
    ("/no/such/path", 127, "/no/such/path"),
    ("/etc", 126, "/etc"),
    ("/etc/plain", 126, "/etc/plain"),
    ("/etc/plain/below", 0, "/etc/plain/below"),
    ("/etc/script", 126, "/etc/script"),
];

fn exit_codes(errors: Errors) {
    let Some(podman) = Podman::new(errors) else { return };
    podman.detached("c", &[], &["sh", "-c", "echo '#!/no/such/interpreter' >/etc/script; sleep 1000"]);
    for (payload, code, word) in UNSTARTABLE {
        if payload != "/etc/script" {
            let run = podman.to_its_end(&[], &[payload]);
            expect(payload, &run, code, word);
        }
        let exec = podman.run(&["exec", "c", payload]);
        expect(payload, &exec, code, word);
    }
    let sysctl = podman.to_its_end(&["--sysctl", "net.no_such_key=1"], &["true"]);
    assert!([126, 127].contains(&sysctl.status) && sysctl.stderr.contains("no_such_key"), "{sysctl:?}");
    let flag = podman.run(&["run", "--no-such-flag", "image"]);
    assert_eq!(flag.status, 125, "podman's own error: {flag:?}");
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[track_caller]
fn expect(payload: &str, output: &rspawn_tests::Output, code: i32, word: &str) {
    assert!(output.stderr.contains(word), "{payload}: the error names it: {output:?}");
    assert_eq!(output.status, code, "{payload}: {output:?}");
}

#[test]
fn exit_codes_from_stderr() {
    exit_codes(Errors::Stderr);
}

#[test]
fn exit_codes_from_the_json_log() {
    exit_codes(Errors::JsonLog);
}

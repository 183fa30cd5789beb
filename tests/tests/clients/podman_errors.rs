//! podman's exit codes when a container or a command does not start: it reads the runtime's words to tell them apart.
use rspawn_tests::clients::speaks_as_runc;
use rspawn_tests::podman::{Errors, Podman};

/// Payloads that cannot be executed, and podman's exit code for `run` and `exec` of each. 255 is what exec makes of an
/// error whose words say neither "not found" nor "permission denied".
const UNSTARTABLE: [(&str, i32, i32); 5] = [
    ("no-such-program", 127, 127),
    ("/no/such/path", 127, 127),
    ("/etc", 126, 126),
    ("/etc/plain", 126, 126),
    ("/etc/plain/below", 126, 255),
];

fn exit_codes(errors: Errors) {
    let Some(podman) = Podman::new(errors) else { return };
    podman.detached("c", &[], &["sleep", "1000"]);
    for (payload, of_run, of_exec) in UNSTARTABLE {
        for (verb, code, output) in [
            ("run", of_run, podman.to_its_end(&[], &[payload])),
            ("exec", of_exec, podman.run(&["exec", "c", payload])),
        ] {
            let known = output.status == code && output.stderr.contains(payload);
            assert!(known || !speaks_as_runc(), "{verb} {payload}: {code}, and an error that names it: {output:?}");
        }
    }
    // A script whose interpreter is missing: the kernel says ENOENT, of a file that is there.
    let script = "echo '#!/no/such/interpreter' >/tmp/script; chmod 755 /tmp/script";
    podman.ok(&["exec", "c", "sh", "-c", script]);
    let output = podman.run(&["exec", "c", "/tmp/script"]);
    let known = [1, 126, 127].contains(&output.status) && output.stderr.contains("/tmp/script");
    assert!(known || !speaks_as_runc(), "{output:?}");

    let sysctl = podman.to_its_end(&["--sysctl", "net.no_such_key=1"], &["true"]);
    assert!([126, 127].contains(&sysctl.status) && sysctl.stderr.contains("no_such_key"), "{sysctl:?}");
    let flag = podman.run(&["run", "--no-such-flag", "image"]);
    assert_eq!(flag.status, 125, "podman's own error: {flag:?}");
    assert_ne!(podman.run(&["exec", "no-such-container", "true"]).status, 0);
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.assert_nothing_left();
}

#[test]
fn exit_codes_from_stderr() {
    exit_codes(Errors::Stderr);
}

#[test]
fn exit_codes_from_the_json_log() {
    exit_codes(Errors::JsonLog);
}

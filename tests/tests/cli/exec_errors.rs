//! A payload that cannot be executed: texts that podman, docker and CRI-O match on, one line each, exit status 1.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rspawn_tests::{Bundle, cannot_make_containers};
use serde_json::json;

rspawn_tests::also_as_an_ordinary_user!();

/// Runs the bundle in both init modes; gives the one error line, without the program's name.
#[track_caller]
fn error(bundle: &Bundle) -> String {
    let mut lines = ["--init=supervise", "--init=exec"].map(|mode| {
        let output = bundle.run_with(&[mode], b"");
        let text = output.refused();
        assert_eq!(text.lines().count(), 1, "{text}");
        text.trim_end().strip_prefix("rspawn: ").expect("the program's name").to_string()
    });
    assert_eq!(lines[0], lines[1]);
    std::mem::take(&mut lines[0])
}

fn executing(program: &str) -> Bundle {
    Bundle::new().with_args(&[program])
}

/// Writes an executable file into the root.
fn with_file(bundle: Bundle, name: &str, content: &[u8], mode: u32) -> Bundle {
    let path = bundle.rootfs().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    bundle
}

#[test]
fn a_name_that_is_not_in_path() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(error(&executing("nothing")), r#"exec: "nothing": executable file not found in $PATH"#);
    for env in [json!([]), json!(["PATH="]), json!(["PATH=/none:/nowhere"])] {
        let bundle = executing("true").with(|config| config["process"]["env"] = env.clone());
        assert_eq!(error(&bundle), r#"exec: "true": executable file not found in $PATH"#, "{env}");
    }
}

#[test]
fn path_is_the_payloads_own() {
    if cannot_make_containers() {
        return;
    }
    let script = b"#!/bin/sh\necho found $0\n";
    let bundle = with_file(executing("prog"), "usr/prog", script, 0o755);
    fs::create_dir(bundle.rootfs().join("tmp/prog")).unwrap();
    // A directory of that name and a file that cannot be executed are passed over.
    let bundle = with_file(bundle, "etc/prog", script, 0o644)
        .with(|config| config["process"]["env"] = json!(["PATH=/none:/tmp:/etc:/usr"]));
    assert_eq!(bundle.run().ok(), "found /usr/prog\n");
    let denied = with_file(executing("prog"), "etc/prog", script, 0o644)
        .with(|config| config["process"]["env"] = json!(["PATH=/etc"]));
    assert_eq!(error(&denied), r#"exec: "prog": permission denied"#);
}

#[test]
fn a_path_that_does_not_exist() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(error(&executing("/no/such")), r#"exec: "/no/such": stat /no/such: no such file or directory"#);
    assert_eq!(error(&executing("./here")), r#"exec: "./here": stat ./here: no such file or directory"#);
    let dangling = executing("/dangling");
    symlink("/nowhere", dangling.rootfs().join("dangling")).unwrap();
    assert_eq!(error(&dangling), r#"exec: "/dangling": stat /dangling: no such file or directory"#);
    let text = error(&executing("/bin/busybox/x"));
    assert_eq!(text, r#"exec: "/bin/busybox/x": stat /bin/busybox/x: not a directory"#);
    let looping = executing("/loop");
    symlink("loop", looping.rootfs().join("loop")).unwrap();
    assert_eq!(error(&looping), r#"exec: "/loop": stat /loop: too many levels of symbolic links"#);
}

#[test]
fn what_may_not_be_executed() {
    if cannot_make_containers() {
        return;
    }
    assert_eq!(error(&executing("/bin")), r#"exec: "/bin": is a directory: permission denied"#);
    let plain = with_file(executing("/plain"), "plain", b"#!/bin/sh\n", 0o644);
    assert_eq!(error(&plain), r#"exec: "/plain": permission denied"#);
    // Executable for its owner, who the payload is not.
    let other = with_file(executing("/mine"), "mine", b"#!/bin/sh\n", 0o700)
        .with(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    assert_eq!(error(&other), r#"exec: "/mine": permission denied"#);
    let noexec = with_file(executing("/mnt/file"), "tmp/file", b"#!/bin/sh\n", 0o755);
    let source = noexec.rootfs().join("tmp").to_string_lossy().into_owned();
    let noexec = noexec.with_mount("/mnt", "bind", &source, &["bind", "noexec"]);
    assert_eq!(error(&noexec), r#"exec: "/mnt/file": permission denied"#);
}

/// It is looked at to say why, and nobody is waited for at its other end.
#[test]
fn a_pipe_is_no_program() {
    if cannot_make_containers() {
        return;
    }
    let bundle = executing("/pipe");
    let path = bundle.rootfs().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = std::process::Command::new("timeout");
    let run = bundle.command(&[]);
    command.args(["-s", "KILL", "20"]).arg(run.get_program()).args(run.get_args());
    let said = rspawn_tests::finish(command, b"").refused();
    assert!(said.contains("exec /pipe: permission denied"), "{said}");
}

#[test]
fn an_interpreter_that_is_missing_is_named() {
    if cannot_make_containers() {
        return;
    }
    let script = with_file(executing("/script"), "script", b"#! /no/such -e\necho\n", 0o755);
    let text = error(&script);
    assert!(text.contains("/no/such") && text.contains("/script"), "{text}");
    assert!(text.contains("no such file or directory"), "{text}");
    // A program that is linked dynamically, in a root without the loader.
    let dynamic = ["/bin/bash", "/usr/bin/env", "/bin/cat"].into_iter().find(|path| fs::read(path).is_ok());
    let dynamic = fs::read(dynamic.expect("a dynamic program of the host's")).unwrap();
    let text = error(&with_file(executing("/dynamic"), "dynamic", &dynamic, 0o755));
    assert!(text.contains("/dynamic") && text.contains("ld-linux"), "{text}");
    assert!(text.contains("no such file or directory"), "{text}");
}

#[test]
fn files_in_no_format_that_the_kernel_knows() {
    if cannot_make_containers() {
        return;
    }
    let text = error(&with_file(executing("/text"), "text", b"echo no shebang\n", 0o755));
    assert!(text.contains("exec format error") && text.contains("/text"), "{text}");
    let text = error(&with_file(executing("/empty"), "empty", b"", 0o755));
    assert!(text.contains("exec format error"), "{text}");
    // An ELF header of another machine (0xffff).
    let mut elf = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).unwrap();
    elf[18..20].copy_from_slice(&[0xff, 0xff]);
    let text = error(&with_file(executing("/elf"), "elf", &elf, 0o755));
    assert!(text.contains("exec format error") && text.contains("another machine"), "{text}");
}

#[test]
fn an_empty_command_is_refused_by_the_planner() {
    if cannot_make_containers() {
        return;
    }
    let refused = Bundle::new().with_args(&[]).run().refused();
    assert!(refused.contains("/process/args"), "{refused}");
    let refused = Bundle::new().with_args(&[""]).run().refused();
    assert!(refused.contains("/process/args/0"), "{refused}");
}

//! The policies that are shipped, ready to be used: each starts what its engines start by default, and refuses the
//! configurations of the known escapes.
use std::fs;
use std::path::PathBuf;

use rspawn_tests::clients::{shipped_policy, under_policy, with_runtime};
use rspawn_tests::podman::{Errors, Podman};
use rspawn_tests::sources::workspace;
use rspawn_tests::{Bundle, Scratch, cannot_make_containers, finish, program};
use serde_json::json;
use std::process::Command;

const FILES: [&str; 4] = ["container-host", "kubernetes-node", "rootless-workstation", "build-machine"];

/// It, where the engines of a test keep their files elsewhere.
fn with_storage(name: &str, place: &std::path::Path) -> String {
    let text = shipped_policy(name, &format!("{}/**", place.display()));
    let own = place.file_name().unwrap_or_default().display();
    let cgroups = if text.contains("\ncgroups.allow") { format!("cgroups.allow = /{own}/**\n") } else { String::new() };
    text + &cgroups
}

#[test]
fn they_can_be_read() {
    for name in FILES {
        let path = workspace().join(format!("parent/dist/policy/{name}.conf"));
        // In a clone others may write; where a policy belongs, root alone may.
        let scratch = Scratch::new();
        let file = scratch.path.join(name);
        fs::write(&file, fs::read_to_string(&path).unwrap()).unwrap();
        let mut command = Command::new(program("rspawn"));
        command.args(["policy", "show"]).arg(&file);
        let shown = finish(command, b"").ok();
        assert!(shown.starts_with("mode = enforce\n") && shown.contains("seccomp = required\n"), "{name}: {shown}");
    }
}

/// What has led out of containers: each refused by each file, with the plain bundle beside it granted.
#[test]
fn known_escapes_are_refused() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    type Change = fn(Bundle) -> Bundle;
    let escapes: [(&str, Change); 16] = [
        ("every capability", |b| {
            let all = json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
            b.with(|c| c["process"]["capabilities"] = json!({"bounding": all, "permitted": all, "effective": all}))
        }),
        ("the host's root", |b| b.with_mount("/host", "none", "/", &["rbind"])),
        ("the host's root, read-only", |b| b.with_mount("/host", "none", "/", &["rbind", "rro"])),
        ("the host's processes", |b| b.without_namespaces(&["pid"])),
        ("the host's processes, by a path", |b| {
            b.without_namespaces(&["ipc"]).with(|c| {
                c["linux"]["namespaces"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"type": "ipc", "path": "/proc/self/ns/ipc"}));
            })
        }),
        ("the host's files of configuration", |b| b.with_mount("/mnt", "none", "/etc", &["bind"])),
        ("the host's procfs", |b| b.with_mount("/mnt", "none", "/proc", &["rbind"])),
        ("the host's devices", |b| b.with_mount("/mnt", "none", "/dev", &["rbind"])),
        ("a device filesystem", |b| b.with_mount("/mnt", "devtmpfs", "devtmpfs", &[])),
        ("the kernel's insides", |b| b.with_mount("/mnt", "debugfs", "debugfs", &[])),
        ("a disk", |b| {
            b.with(|c| c["linux"]["devices"] = json!([{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]))
        }),
        ("every device", |b| {
            b.with(|c| c["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]}))
        }),
        ("no filter", |b| b.with(|c| drop(c["linux"].as_object_mut().unwrap().remove("seccomp")))),
        ("a filter that is none", |b| b.with(|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}))),
        ("a program of the host's", |b| {
            b.with(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "id"]}]}))
        }),
        ("a program of the container's, by a loader", |b| {
            b.with(|c| c["hooks"] = json!({"poststop": [{"path": "/usr/bin/true", "env": ["LD_PRELOAD=/x.so"]}]}))
        }),
    ];
    let scratch = Scratch::new();
    let file = scratch.path.join("policy.conf");
    let option = format!("--policy={}", file.display());
    for name in FILES {
        let run = |bundle: Bundle| {
            let own = format!("{}/**", bundle.path().display());
            // Of a test by root, which the workstation's containers are not.
            let text = shipped_policy(name, &own)
                .replace("cgroups.allow", "#")
                .replace("userns = required", "")
                .replace("own = user mount", "own = mount");
            fs::write(&file, text).unwrap();
            (bundle.run_with(&[&option], b""), bundle)
        };
        let (plain, _) = run(filtered());
        assert_eq!((plain.status, plain.stdout.as_str()), (0, "ran\n"), "{name}: {plain:?}");
        for (what, change) in escapes {
            let (output, bundle) = run(change(filtered()));
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{name}: {what}: {output:?}");
            assert!(output.stderr.contains("the policy refuses this container"), "{name}: {what}: {output:?}");
            bundle.assert_nothing_left();
        }
    }
}

/// A bundle as engines make it: with a filter, and no host's cgroups.
fn filtered() -> Bundle {
    Bundle::script("echo ran").with(|config| {
        let denied = [
            "acct", "bpf", "delete_module", "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load",
            "kexec_load", "open_by_handle_at", "perf_event_open", "quotactl", "swapoff", "swapon",
        ];
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": denied, "action": "SCMP_ACT_ERRNO"}],
        });
    })
}

/// A podman whose runtime is under a policy.
fn podman_under(name: &str, make: impl FnOnce() -> Option<Podman>, test: impl FnOnce(&Podman)) {
    // Before podman, whose image comes of no container.
    let Some(podman) = make() else { return };
    let text = with_storage(name, podman.path());
    let script: PathBuf = under_policy(podman.path(), &podman.runtime(), &text);
    with_runtime(script, || test(&podman));
    podman.assert_nothing_left();
}

#[test]
fn podman_on_a_container_host() {
    podman_under("container-host", || Podman::new(Errors::Stderr), everyday);
}

#[test]
fn podman_on_a_kubernetes_node() {
    podman_under(
        "kubernetes-node",
        || Podman::new(Errors::Stderr),
        |podman| {
            assert_eq!(podman.script(&[], "echo ran").ok(), "ran\n");
            let refused = podman.script(&["--privileged"], "true");
            assert!(refused.status != 0 && refused.stderr.contains("the policy refuses"), "{refused:?}");
        },
    );
}

#[test]
fn podman_on_a_build_machine() {
    podman_under(
        "build-machine",
        || Podman::new(Errors::Stderr),
        |podman| {
            assert_eq!(podman.script(&[], "echo ran").ok(), "ran\n");
            let refused = podman.script(&["--volume", "/etc:/host"], "true");
            assert!(refused.status != 0 && refused.stderr.contains("bind.allow"), "{refused:?}");
        },
    );
}

#[test]
fn podman_on_a_workstation() {
    podman_under("rootless-workstation", Podman::of_user, |podman| {
        assert_eq!(podman.script(&[], "echo ran").ok(), "ran\n");
        let refused = podman.script(&["--volume", "/etc:/host"], "true");
        assert!(refused.status != 0 && refused.stderr.contains("bind.allow"), "{refused:?}");
    });
}

/// What people do with podman all day.
fn everyday(podman: &Podman) {
    assert_eq!(podman.script(&[], "echo ran").ok(), "ran\n");
    podman.script(&["--volume", "named:/v"], "touch /v/kept").ok();
    podman.script(&["--tmpfs", "/t", "--read-only", "--memory", "64m", "--pids-limit", "50"], "touch /t/x").ok();
    podman.script(&["--user", "1000", "--hostname", "h", "--init=false"], "id").ok();
    podman.ok(&["volume", "rm", "named"]);
    podman.detached("one", &[], &["sleep", "1000"]);
    assert_eq!(podman.ok(&["exec", "one", "echo", "ran"]), "ran");
    let more = podman.run(&["exec", "--privileged", "one", "true"]);
    assert!(more.status != 0 && more.stderr.contains("caps.max"), "{more:?}");
    podman.ok(&["rm", "--force", "--time", "0", "one"]);
    for (options, key) in [
        (&["--privileged"][..], "devices.allow"),
        (&["--pid=host"], "namespaces.own"),
        (&["--volume", "/:/host"], "bind."),
        (&["--volume", "/etc:/host:ro"], "bind.allow"),
        (&["--cap-add", "SYS_ADMIN"], "CAP_SYS_ADMIN"),
        (&["--security-opt", "seccomp=unconfined"], "seccomp"),
    ] {
        let refused = podman.script(options, "true");
        assert!(refused.status != 0 && refused.stderr.contains(key), "{options:?}: {refused:?}");
        assert!(refused.stderr.contains("the policy refuses"), "{options:?}: {refused:?}");
    }
}

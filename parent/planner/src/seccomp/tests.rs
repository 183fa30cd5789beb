//! Error paths and the parts of the contract libseccomp cannot be asked about.

use super::parse::{FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV};
use super::*;
use crate::prelude::*;

fn profile(text: &str) -> Seccomp {
    serde_json::from_str(text).expect("valid JSON")
}

fn compiled(text: &str) -> Compiled {
    compile(&profile(text), Arch::X86_64, &Options::default()).expect("compiles")
}

/// The pointers of the problems, and all messages in one string.
fn refused(text: &str) -> (Vec<String>, String) {
    let problems = compile(&profile(text), Arch::X86_64, &Options::default()).expect_err("refused");
    let messages = problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>();
    let pointers = problems.into_iter().map(|p| p.pointer).collect();
    (pointers, messages.join("\n"))
}

fn verdict(program: &[Insn], arch: Arch, nr: u32) -> u32 {
    let data = eval::SeccompData { nr, arch: arch.audit(), ..eval::SeccompData::default() };
    eval::run(program, &data).expect("valid").0
}

#[test]
fn every_fault_is_named_with_its_place() {
    let (pointers, text) = refused(
        r#"{"defaultAction":"SCMP_ACT_ERNO","architectures":["SCMP_ARCH_X86_46"],
            "flags":["SECCOMP_FILTER_FLAG_LOGS"],"listenerMetadata":"m",
            "syscalls":[{"names":[""],"action":"SCMP_ACT_ALLOW","errnoRet":1,
              "args":[{"index":6,"op":"SCMP_CMP_EQUAL"},{"index":9,"op":"SCMP_CMP_EQ"}]},
             {"names":["read"]},
             {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":65536}]}"#,
    );
    let expected = [
        "/linux/seccomp/defaultAction", "/linux/seccomp/architectures/0", "/linux/seccomp/syscalls/0/errnoRet",
        "/linux/seccomp/syscalls/0/names/0", "/linux/seccomp/syscalls/0/args/0/index",
        "/linux/seccomp/syscalls/0/args/0/op", "/linux/seccomp/syscalls/0/args/1/index",
        "/linux/seccomp/syscalls/1/action", "/linux/seccomp/syscalls/2/errnoRet", "/linux/seccomp/listenerMetadata",
        "/linux/seccomp/flags/0",
    ];
    assert_eq!(pointers, expected);
    for hint in ["SCMP_ACT_ERRNO?", "SCMP_ARCH_X86_64?", "SECCOMP_FILTER_FLAG_LOG?"] {
        assert!(text.contains(&format!("did you mean {hint}")), "{hint}: {text}");
    }
}

#[test]
fn notify_needs_an_agent_and_leaves_write_alone() {
    let rule = r#""syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]"#;
    let (pointers, _) = refused(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rule}}}"#));
    assert_eq!(pointers, ["/linux/seccomp/listenerPath"]);
    let (pointers, _) = refused(
        r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/s",
            "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}]}"#,
    );
    let expected = ["/linux/seccomp/defaultAction", "/linux/seccomp/syscalls/0/names/1"];
    assert_eq!(pointers, expected);
    let good = compiled(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s",
             "flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],{rule}}}"#
    ));
    assert!(good.notify);
    assert_eq!(good.flags, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV);
    assert_eq!(verdict(&good.program, Arch::X86_64, 0), ret::USER_NOTIF);
}

#[test]
fn flags_default_to_spec_allow_only_when_absent() {
    let absent = compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    assert_eq!(absent.flags, FLAG_SPEC_ALLOW);
    let empty = compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#);
    assert_eq!(empty.flags, 0);
    let all = profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#,
    );
    let options = |supported_flags| Options { supported_flags, ..Options::default() };
    let compiled = compile(&all, Arch::X86_64, &options(None)).expect("compiles");
    assert_eq!(compiled.flags, FLAG_LOG | FLAG_SPEC_ALLOW);
    let problems = compile(&all, Arch::X86_64, &options(Some(0))).expect_err("refused");
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].pointer, "/linux/seccomp/flags/1");
}

#[test]
fn what_is_skipped_is_warned_about_once() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/s",
            "architectures":["SCMP_ARCH_MIPS","SCMP_ARCH_X86"],
            "syscalls":[{"names":["nosuchcall","read","spu_run"],"action":"SCMP_ACT_ALLOW"},
              {"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}]}"#,
    );
    let pointers: Vec<_> = compiled.warnings.iter().map(|w| w.pointer.as_str()).collect();
    let expected = [
        "/linux/seccomp/architectures/0", "/linux/seccomp/syscalls/0/names/0", "/linux/seccomp/syscalls/1/errnoRet",
        "/linux/seccomp/listenerPath",
    ];
    assert_eq!(pointers, expected);
    assert_eq!(verdict(&compiled.program, Arch::X86, 3), ret::ALLOW);
}

#[test]
fn a_general_rule_after_a_special_one_is_refused() {
    let special = r#"{"names":["ioctl"],"action":"SCMP_ACT_KILL",
        "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}"#;
    let general = r#"{"names":["ioctl"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}"#;
    let text = |a, b| format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{a},{b}]}}"#);
    let (pointers, _) = refused(&text(special, general));
    assert_eq!(pointers, ["/linux/seccomp/syscalls/1/names/0"]);
    compiled(&text(general, special));
}

#[test]
fn newer_calls_get_enosys_unless_permissive() {
    let rule = r#""syscalls":[{"names":["openat"],"action":"SCMP_ACT_LOG"}]"#;
    for (default, newer) in [
        ("SCMP_ACT_ERRNO", ret::ERRNO_ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", ret::ERRNO_ENOSYS),
        ("SCMP_ACT_TRAP", ret::ERRNO_ENOSYS),
        ("SCMP_ACT_ALLOW", ret::ALLOW),
        ("SCMP_ACT_TRACE", ret::TRACE | 1),
    ] {
        let compiled = compiled(&format!(r#"{{"defaultAction":"{default}",{rule}}}"#));
        assert_eq!(verdict(&compiled.program, Arch::X86_64, 257), ret::LOG);
        assert_eq!(verdict(&compiled.program, Arch::X86_64, 258), newer);
        assert_eq!(verdict(&compiled.program, Arch::X86, 295), ret::KILL_THREAD);
        assert_eq!(verdict(&compiled.program, Arch::X32, 0x4000_0101), ret::KILL_THREAD);
    }
}

#[test]
fn too_long_a_program_is_refused() {
    let rules: Vec<String> = (0..3000)
        .map(|n| {
            format!(
                r#"{{"names":["ioctl"],"action":"SCMP_ACT_ALLOW",
                   "args":[{{"index":1,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
    let (pointers, message) = refused(&text);
    assert_eq!(pointers, ["/linux/seccomp"]);
    assert!(message.contains("4096 instructions"), "{message}");
}

#[test]
fn a_default_alone_makes_a_filter() {
    for native in Arch::ALL {
        let s = profile(r#"{"defaultAction":"SCMP_ACT_LOG"}"#);
        let compiled = compile(&s, native, &Options::default()).expect("compiles");
        let nr = if native == Arch::X32 { arch::X32_BIT } else { 0 };
        assert_eq!(verdict(&compiled.program, native, nr), ret::LOG);
    }
}

#[test]
fn a_hostile_profile_is_refused_quickly() {
    let s = Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        syscalls: vec![crate::oci::seccomp::SyscallRule {
            name: String::new(),
            names: vec!["read".into(); 20_000],
            action: "SCMP_ACT_ALLOW".into(),
            errno_ret: None,
            args: (0..20_000)
                .map(|value| crate::oci::seccomp::ArgRule { index: 0, value, value_two: 0, op: "SCMP_CMP_GE".into() })
                .collect(),
        }],
        ..Seccomp::default()
    };
    let problems = compile(&s, Arch::X86_64, &Options::default()).expect_err("refused");
    assert_eq!(problems[0].pointer, "/linux/seccomp");
}

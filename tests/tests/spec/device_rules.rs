//! Device rules: the program of cgroup v2 and the exceptions of v1, against what the rules mean, over rule lists made
//! at random; and against the kernel, with real devices.
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_planner::oci::resources::DeviceRule;
use rspawn_planner::sections::device_rules::{for_v1, rules};
use rspawn_proto::plan::{DeviceAccess, NodeKind, access};
use rspawn_setup::device_program::assemble;
use rspawn_sys::bpf::{self, Instruction};
use rspawn_sys::{Fd, file};
use rspawn_tests::hostile::Numbers;
use rspawn_tests::{Bundle, cannot_make_containers, finish, is_root, skip_unless, v2_alone};
use serde_json::{Value, json};

/// A use of a device: kind, numbers, ways.
#[derive(Debug, Clone, Copy)]
struct Use {
    block: bool,
    major: u32,
    minor: u32,
    ways: u8,
}

/// runc's default list, as its documentation has it.
const DEFAULTS: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
    (10, Some(200)),
];

/// Few values, so that rules and uses meet.
const MAJORS: [u32; 5] = [1, 5, 136, 8, 4095];
const MINORS: [u32; 5] = [0, 3, 5, 7, 1_048_575];

/// What the rules mean, word for word: each way of use is decided by the last rule that speaks of it.
fn meant(list: &[DeviceRule], asked: Use) -> bool {
    let letters = [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')];
    let all_of = |kind: &str, major: Option<u32>, minor: Option<u32>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.into()),
        major: major.map(i64::from),
        minor: minor.map(i64::from),
        access: access.into(),
    };
    let mut list = list.to_vec();
    list.extend([all_of("c", None, None, "m"), all_of("b", None, None, "m")]);
    list.extend(DEFAULTS.map(|(major, minor)| all_of("c", Some(major), minor, "rwm")));
    let speaks = |rule: &&DeviceRule, letter: char| {
        let kind = rule.kind.as_deref().unwrap_or("a");
        let number = |wanted: Option<i64>, is: u32| wanted.is_none_or(|n| n == -1 || n == i64::from(is));
        (kind == "a" || (kind == "b") == asked.block)
            && number(rule.major, asked.major)
            && number(rule.minor, asked.minor)
            && rule.access.contains(letter)
    };
    let decided = |letter| list.iter().rev().find(|rule| speaks(rule, letter)).is_some_and(|rule| rule.allow);
    letters.iter().filter(|(bit, _)| asked.ways & bit != 0).all(|(_, letter)| decided(*letter))
}

/// Runs a program as the kernel does; what a device program must not do is a panic.
fn interpret(program: &[Instruction], asked: Use) -> bool {
    let kind = if asked.block { 1 } else { 2 };
    let context = [u32::from(asked.ways) << 16 | kind, asked.major, asked.minor];
    let mut registers = [0u32; 10];
    let mut next = 0usize;
    for _ in 0..=program.len() {
        let Instruction { code, registers: pair, offset, immediate } = program[next];
        let (to, from) = ((pair & 15) as usize, (pair >> 4) as usize);
        let skip = |taken: bool| if taken { 1 + offset as usize } else { 1 };
        assert!(offset >= 0, "a program without loops");
        let mut advance = 1;
        match code {
            // The context is not in a register of this model: loads name it as register 1.
            0x61 => {
                assert_eq!(from, 1);
                registers[to] = context[offset as usize / 4];
            }
            0xbc => registers[to] = registers[from],
            0xb4 => registers[to] = immediate as u32,
            0x54 => registers[to] &= immediate as u32,
            0x74 => registers[to] >>= immediate,
            0x56 => advance = skip(registers[to] != immediate as u32),
            0x46 => advance = skip(registers[to] & immediate as u32 != 0),
            0x05 => advance = skip(true),
            0x95 => return registers[0] != 0,
            other => panic!("opcode {other:#x}"),
        }
        next += advance;
    }
    panic!("the program does not end");
}

/// The kernel's device cgroup of v1 (security/device_cgroup.c): a default, and exceptions that are matched alone.
struct V1 {
    default: bool,
    exceptions: Vec<DeviceAccess>,
}

impl V1 {
    /// "a" is written to devices.deny, then each rule to its file.
    fn written(rules: &[DeviceAccess]) -> Self {
        let mut state = V1 { default: false, exceptions: Vec::new() };
        for rule in rules {
            let same =
                |other: &DeviceAccess| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
            if rule.kind.is_none() {
                state = V1 { default: rule.allow, exceptions: Vec::new() };
            } else if rule.allow == state.default {
                state.exceptions.iter_mut().filter(|other| same(other)).for_each(|other| other.access &= !rule.access);
                state.exceptions.retain(|other| other.access != 0);
            } else if let Some(other) = state.exceptions.iter_mut().find(|other| same(other)) {
                other.access |= rule.access;
            } else {
                state.exceptions.push(*rule);
            }
        }
        state
    }

    fn allows(&self, asked: Use) -> bool {
        let kind = if asked.block { NodeKind::Block } else { NodeKind::Char };
        let mut speaking = self.exceptions.iter().filter(|rule| {
            rule.kind == Some(kind)
                && rule.major.is_none_or(|major| major == asked.major)
                && rule.minor.is_none_or(|minor| minor == asked.minor)
        });
        if self.default {
            !speaking.any(|rule| rule.access & asked.ways != 0)
        } else {
            speaking.any(|rule| asked.ways & !rule.access == 0)
        }
    }
}

fn random_rule(numbers: &mut Numbers) -> DeviceRule {
    let some = |numbers: &mut Numbers, from: &[u32]| match numbers.below(3) {
        0 => None,
        1 => Some(-1),
        _ => Some(i64::from(*numbers.pick(from))),
    };
    let kind = *numbers.pick(&[None, Some("a"), Some("c"), Some("c"), Some("b")]);
    DeviceRule {
        allow: numbers.below(2) == 0,
        kind: kind.map(str::to_string),
        major: some(numbers, &MAJORS),
        minor: some(numbers, &MINORS),
        access: numbers.pick(&["rwm", "rwm", "r", "w", "m", "rw", "mr"]).to_string(),
    }
}

fn every_use() -> impl Iterator<Item = Use> {
    let majors = MAJORS.into_iter().flat_map(|major| MINORS.map(|minor| (major, minor)));
    majors.flat_map(|(major, minor)| {
        [false, true].into_iter().flat_map(move |block| (1..8).map(move |ways| Use { block, major, minor, ways }))
    })
}

#[test]
fn the_program_and_the_exceptions_mean_what_the_rules_mean() {
    let mut expressible = 0;
    for seed in 0..4000 {
        let mut numbers = Numbers(seed);
        let list: Vec<DeviceRule> = (0..numbers.below(7)).map(|_| random_rule(&mut numbers)).collect();
        let compiled = rules(&list, "").expect("good rules");
        let flat: Vec<DeviceAccess> = compiled.iter().map(|rule| rule.access).collect();
        let program = assemble(&flat);
        let v1 = for_v1(compiled).ok().map(|rules| V1::written(&rules));
        expressible += usize::from(v1.is_some());
        for asked in every_use() {
            let expected = meant(&list, asked);
            assert_eq!(interpret(&program, asked), expected, "v2, seed {seed}: {asked:?} under {list:?}");
            // v1 never allows more. It allows less only where two exceptions would have to be taken together.
            if let Some(v1) = &v1 {
                let single = asked.ways.is_power_of_two();
                let allowed = v1.allows(asked);
                assert!(allowed == expected || (!allowed && !single), "v1, seed {seed}: {asked:?} under {list:?}");
            }
        }
    }
    assert!((500..4000).contains(&expressible), "{expressible} lists can be expressed on v1");
}

#[test]
fn what_v1_cannot_express_is_an_error() {
    let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
        allow,
        kind: Some(kind.into()),
        major,
        minor,
        access: access.into(),
    };
    let hole = [rule(true, "c", Some(8), None, "rwm"), rule(false, "c", Some(8), Some(3), "w")];
    let problems = for_v1(rules(&hole, "/linux/resources").unwrap()).unwrap_err();
    assert_eq!(problems[0].pointer, "/linux/resources/devices/1");
    // What lies within the later rule is taken back without a hole.
    let within = [rule(true, "c", Some(8), Some(3), "rwm"), rule(false, "c", Some(8), None, "rwm")];
    assert!(for_v1(rules(&within, "").unwrap()).is_ok());
}

#[test]
fn rules_that_are_none_are_errors() {
    let good = DeviceRule { allow: true, kind: Some("c".into()), major: Some(1), minor: Some(3), access: "rw".into() };
    let cases = [
        (DeviceRule { kind: Some("p".into()), ..good.clone() }, "type"),
        (DeviceRule { major: Some(-2), ..good.clone() }, "major"),
        (DeviceRule { minor: Some(1 << 32), ..good.clone() }, "minor"),
        (DeviceRule { access: "rx".into(), ..good.clone() }, "access"),
        (DeviceRule { access: String::new(), ..good }, "access"),
    ];
    for (rule, field) in cases {
        let problems = rules(&[rule], "/linux/resources").unwrap_err();
        assert_eq!(problems[0].pointer, format!("/linux/resources/devices/0/{field}"));
    }
}

/// A cgroup of v2 that is removed at the end.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let path = Path::new(mount).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    fn open(&self) -> Fd {
        file::open_host(self.0.to_str().unwrap(), file::O_RDONLY | file::O_DIRECTORY).expect("a cgroup")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The kernel's verifier takes the longest program, and its verdicts about real devices are those meant.
#[test]
fn the_kernel_agrees() {
    let cgroup = if is_root() { Cgroup::new("rspawn-test-rules") } else { None };
    let Some(cgroup) = cgroup else {
        skip_unless(false, "device programs need root and a cgroup2 mount");
        return;
    };
    let held = cgroup.open();
    let many: Vec<DeviceAccess> = (0..1024)
        .map(|number| DeviceAccess {
            allow: number % 3 != 0,
            kind: None,
            major: Some(number % 7),
            minor: Some(number),
            access: 1 + (number % 6) as u8,
        })
        .collect();
    bpf::set_device_program(&held, &assemble(&many)).expect("1024 rules");
    let nodes = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("ptmx", 5, 2), ("tty", 5, 0)];
    let procs = cgroup.0.join("cgroup.procs");
    let opened = |how: &str| format!("(: {how}/dev/$n) 2>&1 | grep -q 'not permitted' && echo no || echo yes;");
    let loops: String = ["<", ">>", "<>"].map(opened).concat();
    let names: Vec<&str> = nodes.iter().map(|(name, ..)| *name).collect();
    let script = format!("echo 0 >{}; for n in {}; do {loops} done", procs.display(), names.join(" "));
    for seed in 0..40 {
        let mut numbers = Numbers(seed);
        let mut list: Vec<DeviceRule> = (0..1 + numbers.below(5)).map(|_| random_rule(&mut numbers)).collect();
        // Rules for the pseudo devices themselves, which the default list would otherwise always allow.
        list.retain(|rule| rule.major.is_none_or(|major| major < 10));
        let flat: Vec<DeviceAccess> = rules(&list, "").expect("good rules").iter().map(|rule| rule.access).collect();
        // Without the eleven default rules at the end, so that there is something to deny.
        let flat = &flat[..flat.len() - 11];
        bpf::set_device_program(&held, &assemble(flat)).expect("a program");
        let shown = Command::new("/bin/busybox").args(["sh", "-c", &script]).output().expect("busybox");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let mut verdicts = shown.lines();
        for (name, major, minor) in nodes {
            for ways in [access::READ, access::WRITE, access::READ | access::WRITE] {
                let asked = Use { block: false, major, minor, ways };
                let expected = if interpret(&assemble(flat), asked) { "yes" } else { "no" };
                assert_eq!(verdicts.next(), Some(expected), "{name} {ways}, seed {seed}: {list:?}\n{shown}");
            }
        }
    }
}

/// The kernel follows each rule that may have matched through all that come after it. What it does not follow is said in
/// a few words, however many rules there are.
#[test]
fn so_many_rules_as_the_kernel_verifies() {
    if cannot_make_containers() {
        return;
    }
    let with = |count: u32, access: fn(u32) -> &'static str| {
        let rule = |minor: u32| {
            let allow = !minor.is_multiple_of(3);
            json!({"allow": allow, "type": "c", "major": 240, "minor": minor, "access": access(minor)})
        };
        let all = json!({"allow": false, "access": "rwm"});
        let list: Vec<Value> = [all].into_iter().chain((0..count).map(rule)).collect();
        let bundle = Bundle::script("echo ran").with(|config| config["linux"]["resources"] = json!({"devices": list}));
        finish(v2_alone::lane(bundle.command(&[])), b"")
    };
    let a_part = |minor: u32| if minor.is_multiple_of(2) { "r" } else { "w" };
    assert_eq!(with(1010, |_| "rwm").ok(), "ran\n");
    assert_eq!(with(700, a_part).ok(), "ran\n");
    let error = with(1010, a_part).refused();
    assert!(error.contains("/linux/resources/devices") && error.contains("bpf: E2BIG"), "{error}");
    assert!(error.contains("some 800") && error.len() < 1000, "{error}");
}

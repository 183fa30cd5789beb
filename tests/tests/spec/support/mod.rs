//! Helpers of the seccomp tests: engine-level profiles in OCI form, the same
//! filter by libseccomp, a generator of profiles, and an independent oracle.
#![allow(dead_code, unused_imports)]

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::collections::BTreeMap;

use rspawn_planner::oci::seccomp::{ArgRule, Seccomp, SyscallRule};
use rspawn_planner::seccomp::eval::{self, SeccompData};
use rspawn_planner::seccomp::{Arch, Insn};

pub use rspawn_tests::podman_profile::{PODMAN_CAPS, oci_form};

fn action(name: &str, data: Option<u32>) -> ScmpAction {
    let data = data.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(data as i32),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(data as u16),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        other => panic!("{other}"),
    }
}

/// The filter's return value for an action.
fn raw(name: &str, data: Option<u32>) -> u32 {
    let data = data.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        other => panic!("{other}"),
    }
}

pub fn scmp_arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
        Arch::Riscv64 => ScmpArch::Riscv64,
    }
}

fn comparison(arg: &ArgRule) -> ScmpArgCompare {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        _ => {
            let op = ScmpCompareOp::MaskedEqual(arg.value);
            return ScmpArgCompare::new(arg.index, op, arg.value_two);
        }
    };
    ScmpArgCompare::new(arg.index, op, arg.value)
}

/// Builds the filter as runc does, without its ENOSYS stub. `Err` is what
/// libseccomp refused.
pub fn libseccomp(s: &Seccomp, native: Arch, tree: bool) -> Result<Vec<Insn>, String> {
    let fail = |e: libseccomp::error::SeccompError| e.to_string();
    let default = action(&s.default_action, s.default_errno_ret);
    let mut ctx = ScmpFilterContext::new(default).map_err(fail)?;
    if native != Arch::X86_64 {
        ctx.add_arch(scmp_arch(native)).map_err(fail)?;
        ctx.remove_arch(ScmpArch::X8664).map_err(fail)?;
    }
    for name in &s.architectures {
        if let Some(arch) = Arch::from_oci_name(name) {
            ctx.add_arch(scmp_arch(arch)).map_err(fail)?;
        }
    }
    if s.syscalls.iter().any(|rule| rule.names == [ANCHOR]) {
        let call = ScmpSyscall::from_name(ANCHOR).map_err(fail)?;
        ctx.set_syscall_priority(call, 255).map_err(fail)?;
    }
    if tree {
        ctx.set_ctl_optimize(2).map_err(fail)?;
    }
    for rule in &s.syscalls {
        let act = action(&rule.action, rule.errno_ret);
        if act == default {
            continue;
        }
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else {
                continue;
            };
            let conds: Vec<ScmpArgCompare> = rule.args.iter().map(comparison).collect();
            let mut seen = [0; 6];
            rule.args.iter().for_each(|arg| seen[arg.index as usize] += 1);
            if conds.is_empty() {
                ctx.add_rule(act, call).map_err(fail)?;
            } else if seen.iter().any(|n| *n > 1) {
                for cond in &conds {
                    ctx.add_rule_conditional(act, call, &[*cond]).map_err(fail)?;
                }
            } else {
                ctx.add_rule_conditional(act, call, &conds).map_err(fail)?;
            }
        }
    }
    let mut file = tempfile();
    ctx.export_bpf(&file).map_err(fail)?;
    Ok(read_program(&mut file))
}

fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("bpf-{}-{n}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).expect("temporary file");
    std::fs::remove_file(&path).expect("just created");
    file
}

fn read_program(file: &mut std::fs::File) -> Vec<Insn> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().expect("seekable");
    file.read_to_end(&mut bytes).expect("readable");
    let insn = |b: &[u8]| Insn {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    bytes.chunks_exact(8).map(insn).collect()
}

pub fn verdict(program: &[Insn], data: &SeccompData) -> u32 {
    eval::run(program, data).expect("a valid program").0
}

/// xorshift64*: small, seeded, good enough to pick from lists.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub const VALUES: &[u64] = &[
    0,
    1,
    2,
    5,
    9,
    16,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x5_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];
pub const OPS: &[&str] =
    &["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
const ACTIONS: &[(&str, Option<u32>)] = &[
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_ERRNO", Some(22)),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_LOG", None),
];
const NAMES: &[&str] = &[
    "write", "openat", "close", "clone", "socket", "connect", "accept", "accept4", "send", "shmget", "semop", "msgctl",
    "personality", "mount", "futex", "execve", "ioctl", "open", "stat", "fstat64", "socketcall", "ipc", "mmap2",
    "prctl", "keyctl", "cachestat", "futex_requeue", "arch_prctl", "set_tls", "nosuchcall", "recvmsg", "rt_sigaction",
    "unshare", "fchmodat2",
];

/// What a generated profile may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// One action for all conditional rules of a call.
    Or,
    /// Several actions for one call, conditions by equality only.
    MixedEq,
    /// Anything.
    Wild,
}

pub fn profile(rng: &mut Rng, class: Class) -> Seccomp {
    let (default, errno) = rng.pick(ACTIONS);
    let mut s = Seccomp { default_action: default.into(), default_errno_ret: errno, ..Seccomp::default() };
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        if !rng.one_in(4) {
            s.architectures.push(arch.oci_name().into());
        }
    }
    // Few names, so that they meet often.
    let mut names: Vec<&str> = (0..1 + rng.below(6)).map(|_| rng.pick(NAMES)).collect();
    let fixed = rng.pick(ACTIONS);
    // Several conditions that begin with an inequality send libseccomp astray,
    // and even into loops without end, when another rule is on the same call.
    let alone = class != Class::MixedEq && rng.one_in(4);
    if alone {
        names.sort_unstable();
        names.dedup();
    }
    for _ in 0..1 + rng.below(12) {
        let unconditional = rng.one_in(6);
        let (action, errno_ret) = match class {
            Class::Or if !unconditional => fixed,
            _ => rng.pick(ACTIONS),
        };
        let args = if unconditional { 0 } else { 1 + rng.below(3) };
        let mut rule = SyscallRule {
            name: String::new(),
            names: match (alone, names.last()) {
                (false, _) => (0..1 + rng.below(3)).map(|_| rng.pick(&names).into()).collect(),
                (true, Some(_)) => names.pop().into_iter().map(String::from).collect(),
                (true, None) => break,
            },
            action: action.into(),
            errno_ret,
            args: Vec::new(),
        };
        for _ in 0..args {
            let op = match class {
                Class::MixedEq => "SCMP_CMP_EQ",
                _ => rng.pick(OPS),
            };
            let index = rng.below(4) as u32;
            // A repeated index splits the rule: keep that, but rare.
            if rule.args.iter().any(|arg| arg.index == index) && !rng.one_in(8) {
                continue;
            }
            rule.args.push(ArgRule { index, op: op.into(), value: rng.pick(VALUES), value_two: rng.pick(VALUES) });
        }
        let last = rule.args.iter().map(|arg| arg.index).max();
        for arg in rule.args.iter_mut().filter(|arg| Some(arg.index) != last && !alone) {
            if arg.op != "SCMP_CMP_MASKED_EQ" {
                arg.op = "SCMP_CMP_EQ".into();
            }
        }
        s.syscalls.push(rule);
    }
    let (action, errno_ret) = match default {
        "SCMP_ACT_ALLOW" => ("SCMP_ACT_ERRNO", Some(3)),
        _ => ("SCMP_ACT_ALLOW", None),
    };
    s.syscalls.push(SyscallRule {
        names: vec![ANCHOR.into()],
        action: action.into(),
        errno_ret,
        ..SyscallRule::default()
    });
    s
}

/// libseccomp 2.5.4 puts the load of the number before the call it sorts first,
/// and loses it when that call does not exist on the architecture: the filter
/// then compares the architecture's value and does nothing. Generated profiles
/// therefore have a rule for this call, and it is given the highest priority.
const ANCHOR: &str = "getpid";

/// A rule on one number of one architecture, as the oracle sees it.
pub struct Flat {
    pub action: (String, Option<u32>),
    pub args: Vec<ArgRule>,
}

/// Per architecture and number, the rules that reach it: multiplexers included,
/// alternatives split. Numbers come from libseccomp, not from the tables under
/// test.
pub type Delegation = BTreeMap<(Arch, u32), Vec<Flat>>;

pub fn reach(s: &Seccomp) -> Delegation {
    let mut reach = Delegation::new();
    let default = action(&s.default_action, s.default_errno_ret);
    for rule in &s.syscalls {
        if action(&rule.action, rule.errno_ret) == default {
            continue;
        }
        let mut seen = [0; 6];
        rule.args.iter().for_each(|arg| seen[arg.index as usize] += 1);
        let alternatives: Vec<Vec<ArgRule>> = if seen.iter().any(|n| *n > 1) {
            rule.args.iter().map(|arg| vec![arg.clone()]).collect()
        } else {
            vec![rule.args.clone()]
        };
        for (name, arch) in rule.names.iter().flat_map(|n| Arch::ALL.map(|a| (n, a))) {
            for args in &alternatives {
                for (nr, args) in targets(arch, name, args) {
                    reach
                        .entry((arch, nr))
                        .or_default()
                        .push(Flat { action: (rule.action.clone(), rule.errno_ret), args });
                }
            }
        }
    }
    reach
}

fn targets(arch: Arch, name: &str, args: &[ArgRule]) -> Vec<(u32, Vec<ArgRule>)> {
    let Ok(number) = ScmpSyscall::from_name_by_arch(name, scmp_arch(arch)) else {
        return Vec::new();
    };
    let number = i32::from(number);
    let direct = match (arch, name) {
        // The resolver hides i386's own numbers behind pseudo ones.
        (Arch::X86, "socket") => 359,
        (Arch::X86, "connect") => 362,
        (Arch::X86, "accept4") => 364,
        (Arch::X86, "recvmsg") => 372,
        (Arch::X86, "shmget") => 395,
        (Arch::X86, "msgctl") => 402,
        _ => number,
    };
    let mux = match number {
        -120..=-100 if arch == Arch::X86 => Some((102, -number - 100)),
        -224..=-200 if arch == Arch::X86 => Some((117, -number - 200)),
        _ => None,
    };
    let mut targets = Vec::new();
    if let Some((nr, code)) = mux {
        let mut all = vec![ArgRule { index: 0, value: code as u64, value_two: 0, op: "SCMP_CMP_EQ".into() }];
        all.extend(args.iter().filter(|arg| arg.index != 0).cloned());
        targets.push((nr, all));
    }
    if let Ok(nr) = u32::try_from(direct) {
        targets.push((nr, args.to_vec()));
    }
    targets
}

/// The verdict by definition, or nothing where rules with different actions
/// match and it depends on their precedence.
pub fn oracle(s: &Seccomp, arch: Arch, flats: &[Flat], args: &[u64; 6]) -> Option<u32> {
    let cut = if arch.wide() { u64::MAX } else { 0xffff_ffff };
    let holds = |arg: &ArgRule| {
        let (x, v) = (args[arg.index as usize] & cut, arg.value & cut);
        match arg.op.as_str() {
            "SCMP_CMP_NE" => x != v,
            "SCMP_CMP_LT" => x < v,
            "SCMP_CMP_LE" => x <= v,
            "SCMP_CMP_EQ" => x == v,
            "SCMP_CMP_GE" => x >= v,
            "SCMP_CMP_GT" => x > v,
            _ => x & v == arg.value_two & v,
        }
    };
    let no_op = |arg: &ArgRule| arg.op == "SCMP_CMP_MASKED_EQ" && arg.value & cut == 0;
    let value = |(name, data): &(String, Option<u32>)| raw(name, *data);
    if let Some(flat) = flats.iter().find(|flat| flat.args.iter().all(no_op)) {
        return Some(value(&flat.action));
    }
    let mut hits = flats.iter().filter(|flat| flat.args.iter().all(holds));
    let Some(hit) = hits.next() else {
        return Some(raw(&s.default_action, s.default_errno_ret));
    };
    let ret = value(&hit.action);
    hits.all(|other| value(&other.action) == ret).then_some(ret)
}

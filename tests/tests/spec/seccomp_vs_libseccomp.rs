//! Our filters against libseccomp's, verdict by verdict.

mod support;

use std::collections::BTreeMap;

use rspawn_planner::oci::seccomp::{ArgRule, Seccomp, SyscallRule};
use rspawn_planner::seccomp::eval::{self, SeccompData};
use rspawn_planner::seccomp::{Arch, Insn, Options, compile};
use support::{
    Class, Delegation, Flat, PODMAN_CAPS, Rng, VALUES, libseccomp, oci_form, oracle, profile, reach, verdict,
};

const NO_STUB: Options = Options { enosys_stub: false, supported_flags: None, unknown_calls_fail: false };

/// (AUDIT_ARCH, architecture) of every ABI compared.
const ABIS: &[Arch] = &[Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
const X32_BIT: u32 = 0x4000_0000;

fn ours(s: &Seccomp, native: Arch, options: &Options) -> Option<Vec<Insn>> {
    compile(s, native, options).ok().map(|c| c.program)
}

fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    let odd = [0xf_0001, 0xf_0005, 0x3fff_ffff, X32_BIT, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff];
    let odd = odd.into_iter().chain([0xc000_0000, u32::MAX - 1, u32::MAX]);
    (0..=600).map(move |nr| nr | bit).chain(odd)
}

/// Argument tuples around every constant of the rules that reach `nr`.
fn argument_sets(flats: &[Flat], rng: &mut Rng) -> Vec<[u64; 6]> {
    let mut sets = vec![[0; 6], [1; 6], [u64::MAX; 6]];
    if flats.is_empty() {
        return sets;
    }
    let mut interesting: Vec<u64> = VALUES.to_vec();
    for arg in flats.iter().flat_map(|flat| &flat.args) {
        for v in [arg.value, arg.value_two] {
            let near = [v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 32, v ^ 1 << 63];
            interesting.extend(near);
        }
    }
    // Each rule met exactly, then disturbed in one argument.
    for flat in flats {
        let mut met = [0; 6];
        for arg in &flat.args {
            met[arg.index as usize] = match arg.op.as_str() {
                "SCMP_CMP_MASKED_EQ" => arg.value_two & arg.value,
                _ => arg.value,
            };
        }
        sets.push(met);
        for arg in &flat.args {
            for delta in [1, u64::MAX, 1 << 32] {
                let mut off = met;
                let slot = &mut off[arg.index as usize];
                *slot = slot.wrapping_add(delta);
                sets.push(off);
            }
        }
    }
    if flats.iter().any(|flat| !flat.args.is_empty()) {
        for _ in 0..60 {
            sets.push(std::array::from_fn(|_| rng.pick(&interesting)));
        }
    }
    sets
}

struct Difference {
    arch: Arch,
    data: SeccompData,
    ours: u32,
    theirs: u32,
}

/// Compares all verdicts; returns how many and those that differ.
fn compare(reach: &Delegation, a: &[Insn], b: &[Insn], rng: &mut Rng) -> (u64, Vec<Difference>) {
    let (mut count, mut differences) = (0, Vec::new());
    for &arch in ABIS {
        for nr in numbers(arch) {
            for args in argument_sets(flats(reach, arch, nr), rng) {
                let data = SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args };
                let (ours, theirs) = (verdict(a, &data), verdict(b, &data));
                count += 1;
                if ours != theirs {
                    differences.push(Difference { arch, data, ours, theirs });
                }
            }
        }
    }
    (count, differences)
}

fn flats(reach: &Delegation, arch: Arch, nr: u32) -> &[Flat] {
    reach.get(&(arch, nr)).map_or(&[], Vec::as_slice)
}

fn show(s: &Seccomp, reach: &Delegation, d: &Difference) -> String {
    let rules: Vec<String> =
        flats(reach, d.arch, d.data.nr).iter().map(|f| format!("{:?} {:x?}", f.action, f.args)).collect();
    format!(
        "{:?} nr {} args {:x?}: ours {:#x}, libseccomp {:#x}, default {} {:?}\n  {}",
        d.arch,
        d.data.nr,
        d.data.args,
        d.ours,
        d.theirs,
        s.default_action,
        s.default_errno_ret,
        rules.join("\n  ")
    )
}

/// Whether libseccomp's program is wrong by definition, which it is known to be
/// only for calls with several rules, or several conditions in one rule (see
/// the module docs of `plan::seccomp`).
fn their_fault(s: &Seccomp, flats: &[Flat], d: &Difference) -> bool {
    let several = flats.len() > 1 || flats.iter().any(|flat| flat.args.len() > 1);
    several && oracle(s, d.arch, flats, &d.data.args) == Some(d.ours)
}

fn podman(native: Arch) -> Seccomp {
    let text = std::fs::read_to_string("/usr/share/containers/seccomp.json").expect("podman's");
    oci_form(&text, PODMAN_CAPS, native)
}

#[test]
fn podman_default_profile_agrees() {
    let mut rng = Rng::new(1);
    for native in [Arch::X86_64, Arch::Aarch64] {
        for caps in [PODMAN_CAPS, &["CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"], &[]] {
            let text = std::fs::read_to_string("/usr/share/containers/seccomp.json").expect("it");
            let s = oci_form(&text, caps, native);
            let a = ours(&s, native, &NO_STUB).expect("compiles");
            let b = libseccomp(&s, native, false).expect("libseccomp takes it");
            let reach = reach(&s);
            let (count, differences) = compare(&reach, &a, &b, &mut rng);
            for d in differences.iter().take(5) {
                println!("{}", show(&s, &reach, d));
            }
            println!(
                "podman on {native:?}, {} caps: {count} verdicts, {} differ; {} instructions, libseccomp {}",
                caps.len(),
                differences.len(),
                a.len(),
                b.len()
            );
            assert!(differences.is_empty());
        }
    }
}

#[test]
fn instruction_counts_on_podmans_profile() {
    let s = podman(Arch::X86_64);
    let a = ours(&s, Arch::X86_64, &Options::default()).expect("compiles");
    let plain = libseccomp(&s, Arch::X86_64, false).expect("libseccomp");
    let tree = libseccomp(&s, Arch::X86_64, true).expect("libseccomp");
    println!("length: ours {}, libseccomp {}, its tree {}", a.len(), plain.len(), tree.len());
    let steps = |program: &[Insn], nr| {
        let data = SeccompData { nr, arch: Arch::X86_64.audit(), ..SeccompData::default() };
        eval::run(program, &data).expect("valid").1
    };
    let mut sums = [0, 0, 0];
    for nr in 0..=450 {
        for (sum, program) in sums.iter_mut().zip([&a, &plain, &tree]) {
            *sum += steps(program, nr);
        }
    }
    for name in ["read", "openat", "futex", "close", "socket", "personality", "clone3"] {
        let nr = Arch::X86_64.number(name).expect("known");
        let counts = [steps(&a, nr), steps(&plain, nr), steps(&tree, nr)];
        println!("{name}: ours {}, libseccomp {}, its tree {}", counts[0], counts[1], counts[2]);
        // runc asks for the tree when a profile has more than 32 calls.
        assert!(counts[0] < counts[2], "{name}");
    }
    println!("mean over 0..=450: {:?}", sums.map(|sum| f64::from(sum) / 451.0));
}

#[derive(Default, Debug)]
struct Tally {
    profiles: u32,
    refused_by_both: u32,
    refused_by_us_only: u32,
    refused_by_them_only: u32,
    verdicts: u64,
    differing: u64,
    their_faults: u64,
    oracle_checks: u64,
}

fn run_class(class: Class, seeds: std::ops::Range<u64>) -> (Tally, Vec<String>) {
    let (mut tally, mut examples) = (Tally::default(), Vec::new());
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let s = profile(&mut rng, class);
        let a = ours(&s, Arch::X86_64, &NO_STUB);
        let b = libseccomp(&s, Arch::X86_64, false);
        tally.profiles += 1;
        let (a, b) = match (a, b) {
            (Some(a), Ok(b)) => (a, b),
            (None, Err(_)) => {
                tally.refused_by_both += 1;
                continue;
            }
            (None, Ok(_)) => {
                tally.refused_by_us_only += 1;
                examples.push(format!("only we refuse seed {seed}: {:?}", compile(&s, Arch::X86_64, &NO_STUB).err()));
                continue;
            }
            (Some(_), Err(e)) => {
                tally.refused_by_them_only += 1;
                examples.push(format!("only libseccomp refuses seed {seed}: {e}"));
                continue;
            }
        };
        let reach = reach(&s);
        let (count, differences) = compare(&reach, &a, &b, &mut rng);
        tally.verdicts += count;
        for d in &differences {
            let flats = flats(&reach, d.arch, d.data.nr);
            if their_fault(&s, flats, d) {
                tally.their_faults += 1;
            } else {
                tally.differing += 1;
                examples.push(format!("seed {seed} {}", show(&s, &reach, d)));
            }
        }
        tally.oracle_checks += check_oracle(&s, &reach, &a, &mut rng);
    }
    (tally, examples)
}

/// Every verdict of ours that does not depend on precedence, by definition.
fn check_oracle(s: &Seccomp, reach: &Delegation, program: &[Insn], rng: &mut Rng) -> u64 {
    let mut checks = 0;
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        if arch != Arch::X86_64 && !s.architectures.iter().any(|name| name == arch.oci_name()) {
            continue;
        }
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        for nr in (0..600).map(|nr| nr | bit) {
            let flats = flats(reach, arch, nr);
            if flats.is_empty() {
                continue;
            }
            for args in argument_sets(flats, rng) {
                let data = SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args };
                if let Some(expected) = oracle(s, arch, flats, &args) {
                    checks += 1;
                    assert_eq!(verdict(program, &data), expected, "{arch:?} {nr} {args:x?}");
                }
            }
        }
    }
    checks
}

fn assert_agreement(tally: &Tally) {
    assert_eq!(tally.differing, 0);
    assert_eq!(tally.refused_by_us_only, 0);
    // libseccomp also keeps rules for calls an architecture lacks, and refuses
    // those that collide once cut to 32 bits.
    assert!(tally.refused_by_them_only * 100 <= tally.profiles);
    assert!(tally.their_faults * 10_000 < tally.verdicts);
}

#[test]
fn generated_alternatives_agree() {
    let (tally, examples) = run_class(Class::Or, 0..600);
    println!("{tally:?}");
    examples.iter().take(5).for_each(|e| println!("{e}"));
    assert_agreement(&tally);
}

#[test]
fn generated_mixed_equalities_agree() {
    let (tally, examples) = run_class(Class::MixedEq, 1000..1600);
    println!("{tally:?}");
    examples.iter().take(5).for_each(|e| println!("{e}"));
    assert_agreement(&tally);
}

#[test]
fn generated_wild_profiles_mostly_agree() {
    let (tally, examples) = run_class(Class::Wild, 5000..5600);
    println!("{tally:?}");
    examples.iter().take(4).for_each(|e| println!("{e}"));
    // Precedence among inequalities with different actions: see the module docs.
    assert!(tally.differing * 100_000 < tally.verdicts);
}

/// runc's stub in front of libseccomp's filter, as `patchbpf` describes it.
fn stubbed(s: &Seccomp, largest: &BTreeMap<Arch, u32>, theirs: &[Insn], data: &SeccompData) -> u32 {
    let default = s.default_action.as_str();
    let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&default);
    let abi = match data.arch {
        arch if arch == Arch::X86_64.audit() && data.nr & X32_BIT != 0 => Some(Arch::X32),
        arch if arch == Arch::X86_64.audit() => Some(Arch::X86_64),
        arch if arch == Arch::X86.audit() => Some(Arch::X86),
        _ => None,
    };
    let limit = abi.and_then(|abi| largest.get(&abi));
    match limit {
        Some(limit) if !permissive && data.nr > *limit => 0x0005_0000 | 38,
        _ => verdict(theirs, data),
    }
}

#[test]
fn enosys_stub_matches_runcs() {
    let mut count = 0u64;
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let s = match seed {
            0 => podman(Arch::X86_64),
            _ => profile(&mut rng, Class::Or),
        };
        let theirs = libseccomp(&s, Arch::X86_64, false);
        let (Some(a), Ok(b)) = (ours(&s, Arch::X86_64, &Options::default()), theirs) else {
            continue;
        };
        // Every rule counts, redundant ones as well: make none redundant.
        let mut all = s.clone();
        all.default_action = "SCMP_ACT_ERRNO".into();
        all.default_errno_ret = Some(4000);
        let mut largest = BTreeMap::new();
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            let listed = s.architectures.iter().any(|name| name == arch.oci_name());
            if arch == Arch::X86_64 || listed {
                let numbers = reach(&all).into_keys().filter(|(a, _)| *a == arch);
                largest.extend(numbers.map(|(_, nr)| nr).max().map(|nr| (arch, nr)));
            }
        }
        let reach = reach(&s);
        for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64] {
            for nr in numbers(arch) {
                let flats = flats(&reach, arch, nr);
                for args in argument_sets(flats, &mut rng) {
                    let data = SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args };
                    let expected = stubbed(&s, &largest, &b, &data);
                    let got = verdict(&a, &data);
                    count += 1;
                    if got != expected && oracle(&s, arch, flats, &args) != Some(got) {
                        panic!("seed {seed} {arch:?} {nr:#x}: {got:#x}, expected {expected:#x}");
                    }
                }
            }
        }
    }
    println!("{count} verdicts with the stub");
}

/// Long chains: jumps beyond 255 instructions need trampolines.
#[test]
fn large_profiles_agree() {
    for seed in 0..40 {
        let mut rng = Rng::new(9000 + seed);
        let mut s = profile(&mut rng, Class::Or);
        s.default_action = "SCMP_ACT_ERRNO".into();
        s.default_errno_ret = None;
        s.architectures = vec!["SCMP_ARCH_X86".into()];
        s.syscalls.retain(|rule| rule.names == ["getpid"]);
        s.syscalls.iter_mut().for_each(|rule| rule.action = "SCMP_ACT_ALLOW".into());
        s.syscalls.iter_mut().for_each(|rule| rule.errno_ret = None);
        for (n, name) in ["ioctl", "prctl", "keyctl", "fcntl", "bpf"].iter().enumerate() {
            for _ in 0..rng.below(80) {
                s.syscalls.push(SyscallRule {
                    name: String::new(),
                    names: vec![(*name).into()],
                    action: "SCMP_ACT_LOG".into(),
                    errno_ret: None,
                    args: vec![ArgRule {
                        index: n as u32,
                        value: rng.below(1 << 20) as u64,
                        value_two: 0,
                        op: "SCMP_CMP_EQ".into(),
                    }],
                });
            }
        }
        let a = compile(&s, Arch::X86_64, &NO_STUB).expect("compiles").program;
        let b = libseccomp(&s, Arch::X86_64, false).expect("libseccomp takes it");
        let (_, differences) = compare(&reach(&s), &a, &b, &mut rng);
        assert!(differences.is_empty(), "{}", show(&s, &reach(&s), &differences[0]));
        check_oracle(&s, &reach(&s), &a, &mut rng);
    }
}

/// Not a check: prints the smallest profile that shows a difference.
#[test]
#[ignore = "a tool for looking into a difference"]
fn minimise() {
    let class = match std::env::var("CLASS").as_deref() {
        Ok("or") => Class::Or,
        Ok("wild") => Class::Wild,
        _ => Class::MixedEq,
    };
    let seed = std::env::var("SEED").expect("SEED").parse().expect("a number");
    let mut s = profile(&mut Rng::new(seed), class);
    let find = |s: &Seccomp| -> Option<String> {
        let reach = reach(s);
        let a = ours(s, Arch::X86_64, &NO_STUB);
        let b = libseccomp(s, Arch::X86_64, false);
        match (a, b) {
            (Some(a), Ok(b)) => {
                let (_, differences) = compare(&reach, &a, &b, &mut Rng::new(7));
                let odd = differences.into_iter().find(|d| {
                    let flats = flats(&reach, d.arch, d.data.nr);
                    !their_fault(s, flats, d)
                });
                odd.map(|d| show(s, &reach, &d))
            }
            (None, Err(_)) => None,
            (a, b) => Some(format!("ours {} theirs {:?}", a.is_some(), b.err())),
        }
    };
    let mut last = find(&s).expect("a difference");
    loop {
        let mut smaller: Vec<Seccomp> = Vec::new();
        for i in 0..s.syscalls.len() {
            let mut t = s.clone();
            t.syscalls.remove(i);
            smaller.push(t);
            for j in 0..s.syscalls[i].names.len() {
                let mut t = s.clone();
                t.syscalls[i].names.remove(j);
                smaller.push(t);
            }
            for j in 0..s.syscalls[i].args.len() {
                let mut t = s.clone();
                t.syscalls[i].args.remove(j);
                smaller.push(t);
            }
        }
        for i in 0..s.architectures.len() {
            let mut t = s.clone();
            t.architectures.remove(i);
            smaller.push(t);
        }
        match smaller.into_iter().find_map(|t| find(&t).map(|l| (t, l))) {
            Some((t, l)) => (s, last) = (t, l),
            None => break,
        }
    }
    println!("{last}\n{}", serde_json::to_string(&s).expect("plain"));
}

//! Fuzzing with a seed, in time that is bounded: `RSPAWN_FUZZ_SECONDS` for each of the two (default 5; CI gives a
//! minute in all). A failure prints its seed; `RSPAWN_FUZZ_SEED=N` starts there, and the first round repeats it.
//!
//! The planner: whatever configuration it gets, it plans or says what is wrong; and every plan that it makes passes
//! the helper's check and survives the wire. The decoder: whatever bytes it gets, it gives a plan or an error.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rspawn_proto::check::check;
use rspawn_proto::msg::ToSetup;
use rspawn_proto::plan::Plan;
use rspawn_proto::{MAX_PLAN, codec};
use rspawn_tests::hostile::{Numbers, options, plan_message};
use serde_json::{Value, json};

/// Counts what this thread holds, so that the decoder's hunger shows.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // Threads that are ending have no counter any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: all of it is the system allocator's; counting neither allocates nor frees.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that an action held at one time beyond what was held before.
fn most_held<T>(action: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.get().0;
    HELD.set((before, before));
    let done = action();
    (done, HELD.get().1 - before)
}

/// Runs rounds until the time is up. Gives how many there were.
fn rounds(mut round: impl FnMut(&mut Numbers, u64)) -> u64 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("RSPAWN_FUZZ_SECONDS").unwrap_or(5);
    let first = number("RSPAWN_FUZZ_SEED").unwrap_or(1);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    while Instant::now() < deadline {
        let outcome = catch_unwind(AssertUnwindSafe(|| round(&mut Numbers(seed), seed)));
        assert!(outcome.is_ok(), "seed {seed}: it panicked; again with RSPAWN_FUZZ_SEED={seed}");
        seed += 1;
    }
    seed - first
}

fn seeds_of_configurations() -> Vec<Value> {
    let mut plain = serde_json::to_value(rspawn_planner::default_spec::default_spec(true)).unwrap();
    plain["root"]["path"] = json!("/");
    let host = rspawn_planner::default_spec::host_spec(
        vec!["sh".into()],
        false,
        None,
        rspawn_host::facts::gather().unwrap().arch(),
    );
    let mut rich = plain.clone();
    rich["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/a", "type": "bind", "source": "/etc", "options": ["rbind", "ro", "rslave"]}),
        json!({"destination": "/b", "type": "overlay", "options": ["lowerdir=/a:/b", "upperdir=/c", "workdir=/d"]}),
        json!({"destination": "/c", "type": "ext4", "source": "/dev/sda", "options": ["ro"]}),
        json!({"destination": "/d", "source": "/tmp", "options": ["bind", "idmap"],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}]}),
        json!({"destination": "/e", "type": "tmpfs", "options": ["tmpcopyup", "size=1k", "ro"]}),
    ]);
    rich["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel/msgmax": "8192"});
    rich["linux"]["devices"] = json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438}]);
    rich["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1, "nanosecs": 2}});
    rich["linux"]["netDevices"] = json!({"eth0": {"name": "eth1"}});
    rich["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": []});
    rich["linux"]["personality"] = json!({"domain": "LINUX"});
    rich["linux"]["rootfsPropagation"] = json!("rprivate");
    rich["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]});
    rich["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 1});
    rich["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 4});
    rich["process"]["oomScoreAdj"] = json!(100);
    rich["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    vec![plain, serde_json::to_value(host).unwrap(), rich]
}

/// A value that somebody might put there to see what happens.
fn hostile_value(numbers: &mut Numbers) -> Value {
    let strings = [
        "", "/", ".", "..", "../..", "/..", "a/../../b", "\0", "/dev\0/null", "ro", "rbind", "idmap", "tmpcopyup",
        "bind", "remount", "proc", "cgroup", "overlay", "tmpfs", "user", "mount", "lowerdir=", "lowerdir=:::", "=",
        "size=", "SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW", "CAP_SYS_ADMIN", "RLIMIT_CPU", "/proc/self/exe", "kernel/../x",
        "net.", "shared", "0-4095", "9999999999999999999999", "-1", "é", "\u{202e}", "\n\u{1b}[2J", "supervise",
    ];
    match numbers.below(12) {
        0 => Value::Null,
        1 => json!(numbers.below(2) == 0),
        2 => json!(-1),
        3 => numbers
            .pick(&[json!(u32::MAX), json!(u64::MAX), json!(i64::MIN), json!(4_294_967_294u64), json!(1e300)])
            .clone(),
        4 => json!(numbers.below(300)),
        5 => json!([]),
        6 => json!({}),
        7 => json!("x".repeat(numbers.below(10_000))),
        8 => json!([[[[[[[[]]]]]]]]),
        9 => json!("/".repeat(numbers.below(5000))),
        _ => json!(numbers.pick(&strings)),
    }
}

/// Changes a document at one random place.
fn mutate(value: &mut Value, numbers: &mut Numbers) {
    let go_deeper = numbers.below(8) != 0;
    match value {
        Value::Object(map) if go_deeper && !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = numbers.pick(&keys).clone();
            match numbers.below(12) {
                0 => drop(map.remove(&key)),
                1 => {
                    let other = numbers.pick(&keys).clone();
                    let copy = map[&key].clone();
                    map.insert(other, copy);
                }
                2 => {
                    let moved = map.remove(&key).expect("it is there");
                    let name = hostile_value(numbers);
                    map.insert(name.as_str().map_or(format!("{key}~/"), str::to_string), moved);
                }
                _ => mutate(&mut map[&key], numbers),
            }
        }
        Value::Array(list) if go_deeper && !list.is_empty() => {
            let index = numbers.below(list.len());
            match numbers.below(8) {
                0 => drop(list.remove(index)),
                1 => list.push(list[index].clone()),
                2 => list.insert(index, hostile_value(numbers)),
                3 => {
                    let times = numbers.below(400);
                    list.extend(vec![list[index].clone(); times]);
                }
                _ => mutate(&mut list[index], numbers),
            }
        }
        Value::String(text) if go_deeper => {
            let at = (0..=numbers.below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            match hostile_value(numbers) {
                Value::String(more) if more.len() < 100 => text.insert_str(at, &more),
                _ => text.truncate(at),
            }
        }
        Value::Number(_) if go_deeper => *value = json!(numbers.number() >> numbers.below(64)),
        other => *other = hostile_value(numbers),
    }
}

#[test]
fn the_planner_plans_or_says_what_is_wrong() {
    let seeds = seeds_of_configurations();
    let (mut facts, mut planned) = (rspawn_host::facts::gather().unwrap(), 0u64);
    facts.capabilities = u64::MAX;
    let options = options("fuzz", std::path::Path::new("/bundle"));
    for seed in &seeds {
        let spec = rspawn_planner::oci::parse(seed.to_string().as_bytes()).unwrap();
        if let Err(problems) = rspawn_planner::plan(&spec, &facts, &options) {
            panic!("a seed is no good: {problems:?}");
        }
    }
    let total = rounds(|numbers, _| {
        let mut config = numbers.pick(&seeds).clone();
        for _ in 0..=numbers.below(4) {
            mutate(&mut config, numbers);
        }
        let mut bytes = config.to_string().into_bytes();
        if numbers.below(20) == 0 && !bytes.is_empty() {
            let at = numbers.below(bytes.len());
            bytes[at] = numbers.number() as u8;
        }
        let Ok(spec) = rspawn_planner::oci::parse(&bytes) else { return };
        let made = match rspawn_planner::plan(&spec, &facts, &options) {
            Ok(made) => made,
            Err(problems) => {
                assert!(!problems.is_empty(), "refused without a reason");
                assert!(
                    problems
                        .iter()
                        .all(|p| p.pointer.is_empty() || p.pointer.starts_with('/') || p.pointer.starts_with("rule"))
                );
                assert!(problems.iter().all(|p| !p.message.is_empty()));
                return;
            }
        };
        planned += 1;
        assert_eq!(check(&made.plan), Ok(()));
        let encoded = codec::encode(&made.plan).expect("every plan encodes");
        assert!(encoded.len() <= MAX_PLAN, "a plan of {} bytes", encoded.len());
        assert_eq!(codec::decode_plan::<Plan>(&encoded).as_ref(), Ok(&made.plan));
        // What is said of it must not panic either.
        let _ = rspawn_report::show::json::json(&made, None);
        if made.plan.rootfs.len() < 200 {
            let _ = rspawn_report::show::text::text(&made, None, rspawn_report::show::Colours::NEVER);
            let _ = rspawn_report::show::diff::diff(&made.plan, &made.plan, rspawn_report::show::Colours::NEVER);
        }
    });
    println!("{total} configurations, {planned} plans");
    assert!(
        planned * 20 > total,
        "only {planned} of {total} were planned: the mutations are too wild to find anything"
    );
}

#[test]
fn the_decoder_gives_a_plan_or_an_error() {
    let facts = rspawn_host::facts::gather().unwrap();
    let options = options("fuzz", std::path::Path::new("/bundle"));
    let plan = |config: &Value| {
        let spec = rspawn_planner::oci::parse(config.to_string().as_bytes()).unwrap();
        codec::encode(&plan_message(rspawn_planner::plan(&spec, &facts, &options).unwrap().plan)).unwrap()
    };
    let seeds: Vec<Vec<u8>> = seeds_of_configurations().iter().map(plan).collect();
    /// Far below what 2^32 elements would take, and above the largest honest plan.
    const MOST: isize = 64 << 20;
    let (mut plans, mut sound) = (0u64, 0u64);
    let mut judge = |bytes: &[u8]| {
        let (decoded, held) = most_held(|| codec::decode_plan::<ToSetup>(bytes));
        assert!(held <= MOST, "decoding {} bytes took {held}", bytes.len());
        if let Ok(message) = &decoded {
            plans += 1;
            let again = codec::encode(message).expect("what decodes encodes");
            assert_eq!(codec::decode_plan::<ToSetup>(&again).as_ref(), Ok(message));
            if let ToSetup::Plan { plan, .. } = message {
                sound += u64::from(check(plan).is_ok());
            }
        }
        decoded.is_ok()
    };
    // Every truncation, once.
    for seed in &seeds {
        assert!(judge(seed));
        for length in 0..seed.len() {
            assert!(!judge(&seed[..length]), "a plan of {} bytes cut at {length} decodes", seed.len());
        }
    }
    let total = rounds(|numbers, _| {
        let mut bytes = numbers.pick(&seeds).clone();
        match numbers.below(6) {
            0 => bytes = (0..numbers.below(4096)).map(|_| numbers.number() as u8).collect(),
            1 => {
                // A length of up to 2^64 in bincode's variable encoding, somewhere.
                let at = numbers.below(bytes.len());
                let claim = [&[*numbers.pick(&[251u8, 252, 253])][..], &numbers.number().to_le_bytes()].concat();
                bytes.splice(at..at, claim);
            }
            2 => {
                let at = numbers.below(bytes.len());
                let end = (at + numbers.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let at = numbers.below(bytes.len());
                let copy = bytes[at..(at + 256).min(bytes.len())].to_vec();
                (0..numbers.below(50)).for_each(|_| drop(bytes.splice(at..at, copy.iter().copied())));
            }
            _ => {
                for _ in 0..=numbers.below(3) {
                    let at = numbers.below(bytes.len());
                    bytes[at] ^= 1 << numbers.below(8);
                }
            }
        }
        judge(&bytes);
        let _ = codec::decode_message::<ToSetup>(&bytes);
    });
    println!("{total} messages; {plans} decoded, {sound} of them sound");
    assert!(plans > sound, "no mutation broke a rule: the check was never asked");
}

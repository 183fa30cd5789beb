//! `process.capabilities`: the five sets, as the kernel shows them to the payload.
use std::fs;

use rspawn_planner::tables::{CAPABILITIES, capability_name};
use rspawn_tests::{Bundle, Output, cannot_make_containers, skip_unless, status_field};
use serde_json::{Value, json};

rspawn_tests::also_as_an_ordinary_user!();

/// Sets in the order of config.md; the fields of /proc/PID/status for them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    fn of_status(status: &str) -> Self {
        let field = |name: &str| {
            let text = status_field(status, name).unwrap_or_else(|| panic!("{name} of {status}"));
            u64::from_str_radix(text, 16).expect("a mask")
        };
        Self {
            bounding: field("CapBnd"),
            effective: field("CapEff"),
            permitted: field("CapPrm"),
            inheritable: field("CapInh"),
            ambient: field("CapAmb"),
        }
    }

    fn config(&self) -> Value {
        let names = |bits: u64| -> Vec<String> {
            (0..64).filter(|number| bits & (1 << number) != 0).map(capability_name).collect()
        };
        json!({
            "bounding": names(self.bounding),
            "effective": names(self.effective),
            "permitted": names(self.permitted),
            "inheritable": names(self.inheritable),
            "ambient": names(self.ambient),
        })
    }

    /// What capabilities(7) makes of these at the exec of a program without file capabilities, for a payload that is
    /// root or another user, and that may gain capabilities or not.
    fn after_exec(&self, root: bool, gains: bool) -> Self {
        let ambient = self.ambient & self.permitted & self.inheritable;
        // Root's programs count as if their files had every capability.
        let most = if gains { u64::MAX } else { self.permitted };
        let permitted = if root { (self.bounding | self.inheritable) & most } else { ambient };
        Self { permitted, effective: permitted, ambient, ..*self }
    }
}

fn available() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let own = Sets::of_status(&status);
    own.permitted & own.bounding
}

fn bundle(capabilities: Value, uid: u32) -> Bundle {
    Bundle::new().with_args(&["cat", "/proc/self/status"]).with(|config| {
        config["process"]["capabilities"] = capabilities;
        config["process"]["user"] = json!({"uid": uid, "gid": uid});
    })
}

fn plan_text(bundle: &Bundle) -> Output {
    bundle.write_config();
    let mut command = std::process::Command::new(rspawn_tests::program("rspawn"));
    command.arg("plan").arg(bundle.path());
    rspawn_tests::finish(command, b"")
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn thirty_combinations_arrive_as_configured() {
    if cannot_make_containers() {
        return;
    }
    let available = available();
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut combinations = vec![
        Sets { bounding: 0, effective: 0, permitted: 0, inheritable: 0, ambient: 0 },
        Sets {
            bounding: available,
            effective: available,
            permitted: available,
            inheritable: available,
            ambient: available,
        },
        // Inheritable beyond bounding: possible, if set before the bounding set is limited.
        Sets { bounding: 0, effective: 1, permitted: 1, inheritable: 1, ambient: 1 },
        // CAP_SETPCAP, which all of this needs, is in none of the sets, or in one alone.
        Sets { bounding: 1 << 8, effective: 0, permitted: 0, inheritable: 0, ambient: 0 },
        Sets { bounding: 0x21, effective: 0x21, permitted: 0x21, inheritable: 0x21, ambient: 0x20 },
    ];
    while combinations.len() < 15 {
        let permitted = numbers.next() & available;
        let inheritable = numbers.next() & available;
        combinations.push(Sets {
            bounding: numbers.next() & available,
            effective: permitted & numbers.next(),
            permitted,
            inheritable,
            ambient: permitted & inheritable & numbers.next(),
        });
    }
    for (index, asked) in combinations.iter().enumerate() {
        for uid in [0, 1000] {
            let mode = if index % 2 == 0 { "--init=exec" } else { "--init=supervise" };
            let gains = index % 3 == 0;
            let bundle =
                bundle(asked.config(), uid).with(|config| config["process"]["noNewPrivileges"] = json!(!gains));
            let seen = Sets::of_status(&bundle.run_with(&[mode], b"").ok());
            assert_eq!(seen, asked.after_exec(uid == 0, gains), "uid {uid}, gains {gains}, asked for {asked:?}");
        }
    }
}

#[test]
fn no_capabilities_section_means_none() {
    if cannot_make_containers() {
        return;
    }
    let seen = Sets::of_status(&bundle(Value::Null, 0).run().ok());
    assert_eq!(seen, Sets { bounding: 0, effective: 0, permitted: 0, inheritable: 0, ambient: 0 });
}

#[test]
fn ambient_capabilities_work_for_a_user() {
    if cannot_make_containers() {
        return;
    }
    let names = json!(["CAP_CHOWN"]);
    let sets =
        json!({"bounding": names, "permitted": names, "inheritable": names, "effective": names, "ambient": names});
    let with = bundle(sets, 1000).with_args(&["sh", "-c", "chown 7:7 /tmp/file"]);
    fs::write(with.rootfs().join("tmp/file"), "").unwrap();
    with.run().ok();
    let without = bundle(json!({"bounding": names}), 1000).with_args(&["sh", "-c", "chown 7:7 /tmp/file"]);
    fs::write(without.rootfs().join("tmp/file"), "").unwrap();
    assert_ne!(without.run().status, 0);
}

#[test]
fn unknown_capabilities_are_left_out_with_a_note() {
    if cannot_make_containers() {
        return;
    }
    let names = json!(["CAP_KILL", "CAP_FLY", "kill", "CAP_CHOWN"]);
    let bundle = bundle(json!({"bounding": names, "permitted": names, "effective": names}), 0);
    let seen = Sets::of_status(&bundle.run().ok());
    assert_eq!((seen.bounding, seen.permitted, seen.effective), (0x21, 0x21, 0x21));
    let plan = plan_text(&bundle).ok();
    assert!(plan.contains("/process/capabilities/bounding/1") && plan.contains("CAP_FLY"), "{plan}");
}

#[test]
fn capabilities_that_rspawn_lacks_are_left_out_with_a_note() {
    let available = available();
    let lacking = (0..CAPABILITIES.len()).find(|number| available & (1 << number) == 0);
    if cannot_make_containers() || skip_unless(lacking.is_some(), "this process has every capability") {
        return;
    }
    let Some(number) = lacking else { return };
    let names = json!([capability_name(number as u32), "CAP_KILL"]);
    let sets =
        json!({"bounding": names, "permitted": names, "inheritable": names, "effective": names, "ambient": names});
    let bundle = bundle(sets, 0);
    let seen = Sets::of_status(&bundle.run().ok());
    assert_eq!((seen.bounding, seen.permitted, seen.inheritable), (0x20, 0x20, 0x20));
    let plan = plan_text(&bundle).ok();
    for set in ["bounding", "permitted", "inheritable", "effective", "ambient"] {
        assert!(plan.contains(&format!("/process/capabilities/{set}/0")), "{set}: {plan}");
    }
}

#[test]
fn effective_beyond_permitted_is_left_out_with_a_note() {
    if cannot_make_containers() {
        return;
    }
    let sets = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"],
    });
    let bundle = bundle(sets, 1000);
    let seen = Sets::of_status(&bundle.run().ok());
    assert_eq!((seen.effective, seen.ambient), (0, 0));
    let plan = plan_text(&bundle).ok();
    assert!(
        plan.contains("/process/capabilities/effective") && plan.contains("/process/capabilities/ambient"),
        "{plan}"
    );
}

#[test]
fn in_a_user_namespace_of_its_own_every_capability_can_be_had() {
    if cannot_make_containers() {
        return;
    }
    let all: Vec<String> = (0..CAPABILITIES.len() as u32).map(capability_name).collect();
    let sets = json!({"bounding": all, "permitted": all, "inheritable": all, "effective": all});
    let bundle = bundle(sets, 0).with(|config| {
        // A user's container has one anyway, and can have no other ids.
        if rspawn_tests::lanes::user::is_here() {
            return;
        }
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    let seen = Sets::of_status(&bundle.run().ok());
    assert_eq!(seen.permitted, (1u64 << CAPABILITIES.len()) - 1);
}

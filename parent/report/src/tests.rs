//! What plans depend on that is a fact of another machine than the one that runs the tests.
use serde_json::{Value, json};

use rspawn_planner::default_spec::default_spec;
use rspawn_planner::facts::Facts;
use rspawn_planner::problem::Problem;
use rspawn_planner::{InitChoice, Options, plan};

fn facts() -> Facts {
    Facts { kernel: (6, 12), machine: "x86_64".into(), capabilities: u64::MAX, ..Facts::default() }
}

/// The steps of a plan, in words.
fn steps(change: impl FnOnce(&mut Value, &mut Facts)) -> Result<Vec<String>, Vec<Problem>> {
    let mut config = serde_json::to_value(default_spec(false)).unwrap();
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    config["linux"]["resources"] = Value::Null;
    let mut facts = facts();
    change(&mut config, &mut facts);
    let spec = rspawn_planner::oci::parse(config.to_string().as_bytes()).unwrap();
    let options = Options::dry_run("id", "/bundle".into(), InitChoice::Auto).unwrap();
    let planned = plan(&spec, &facts, &options)?;
    let mode = format!("{:?}: {}", planned.plan.finish.init, planned.plan.finish.init_reason);
    let host = planned.plan.host.iter().map(|step| crate::describe::host(&planned.plan, &step.op));
    let rootfs = planned.plan.rootfs.iter().map(|step| crate::describe::rootfs(&planned.plan, &step.op));
    Ok(host.chain(rootfs).chain([mode]).collect())
}

#[track_caller]
fn with(steps: &[String], words: &[&str]) -> usize {
    steps.iter().filter(|step| words.iter().all(|word| step.contains(word))).count()
}

/// Before Linux 6.7 the layers are one value, of 255 bytes.
#[test]
fn layers_of_an_overlay_on_an_older_kernel() {
    let overlay = |layers: usize| {
        let lower: Vec<String> = (0..layers).map(|layer| format!("/l{layer}")).collect();
        move |config: &mut Value, facts: &mut Facts| {
            facts.kernel = (6, 1);
            config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/o", "type": "overlay",
                "options": [format!("lowerdir={}", lower.join(":"))]}));
        }
    };
    let found = steps(overlay(13)).unwrap();
    assert_eq!(with(&found, &["new overlay filesystem", "lowerdir="]), 1, "{found:#?}");
    assert_eq!(with(&found, &["lowerdir+"]), 0);
    let problems = steps(overlay(14)).unwrap_err();
    assert!(problems[0].message.contains("14 lower layers") && problems[0].message.contains("6.7"), "{problems:?}");
}

/// A profile is the payload's alone: beside a process 1 with another it could neither signal it nor look at it.
#[test]
fn a_payload_with_a_label_is_process_1() {
    let labelled = |profile: &'static str| {
        move |config: &mut Value, facts: &mut Facts| {
            facts.apparmor = true;
            config["process"]["apparmorProfile"] = json!(profile);
        }
    };
    assert_eq!(with(&steps(labelled("docker-default")).unwrap(), &["Exec: its label"]), 1);
    for none in ["", "unconfined"] {
        assert_eq!(with(&steps(labelled(none)).unwrap(), &["Supervise"]), 1, "{none}");
    }
}

/// The superblock of a message queue is as old as its namespace, and takes no label.
#[test]
fn filesystems_that_take_a_label() {
    let found = steps(|config, facts| {
        facts.selinux = true;
        config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0");
    });
    let found = found.unwrap();
    assert_eq!(with(&found, &["new tmpfs", "context="]), 2, "{found:#?}");
    assert_eq!((with(&found, &["new mqueue"]), with(&found, &["new mqueue", "context="])), (1, 0));
}

/// Where the caller may not make devices, as in another container, the host's are bound.
#[test]
fn devices_without_the_right_to_make_them() {
    assert_eq!(with(&steps(|_, _| {}).unwrap(), &["/dev/full", "clone"]), 0);
    let found = steps(|_, facts| facts.capabilities = !(1 << 27)).unwrap();
    assert_eq!(with(&found, &["clone mount at host path /dev/full"]), 1, "{found:#?}");
}

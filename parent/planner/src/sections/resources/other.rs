//! `pids`, `hugepageLimits`, `network`, `rdma` and `unified`.
use crate::prelude::*;
use alloc::collections::BTreeMap;

use rspawn_proto::check::is_cgroup_setting;

use super::settings::{Choice, ControllerLocation, Settings, Write, find};
use crate::oci::escape;
use crate::oci::resources::{HugepageLimit, Network, Pids, Rdma};

/// How many processes there may be; `None` for any number.
pub fn allowed_processes(pids: &Pids) -> Option<i64> {
    // A cgroup that may have no process could have no container: like runc and systemd.
    pids.limit.filter(|limit| *limit >= 0).map(|limit| limit.max(1))
}

pub fn pids(settings: &mut Settings, pids: &Pids) {
    if pids.limit.is_none() {
        return;
    }
    let Some(home) = settings.home("pids/limit", "pids", "pids") else { return };
    let most = allowed_processes(pids).map_or("max".to_string(), |limit| limit.to_string());
    settings.set(home, "pids/limit", "pids.max", most);
}

pub fn hugepages(settings: &mut Settings, limits: &[HugepageLimit]) {
    for (index, HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
        let field = format!("hugepageLimits/{index}/pageSize");
        let digits = page_size.trim_end_matches(|c: char| !c.is_ascii_digit());
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number || !["KB", "MB", "GB"].contains(&&page_size[digits.len()..]) {
            settings.problem(&field, format!("{page_size:?} is not a page size such as \"2MB\""));
            continue;
        }
        let Some(home) = settings.home(&field, "hugetlb", "hugetlb") else { return };
        let suffix = if matches!(home, ControllerLocation::V1(_)) { "limit_in_bytes" } else { "max" };
        let field = format!("hugepageLimits/{index}/limit");
        // What is used, and what is reserved: a reservation that can never be used would kill at the first touch.
        for kind in ["", "rsvd."] {
            settings.set(home, &field, &format!("hugetlb.{page_size}.{kind}{suffix}"), limit);
        }
    }
}

pub fn network(settings: &mut Settings, network: &Network) {
    let class = network
        .class_id
        .filter(|id| *id != 0)
        .map(|id| ("network/classID", "net_cls", "net_cls.classid", id.to_string()));
    let priority = |(index, entry): (usize, &crate::oci::resources::InterfacePriority)| {
        let field = format!("network/priorities/{index}");
        (field, format!("{} {}", entry.name, entry.priority))
    };
    if let Some((field, controller, file, value)) = class {
        v1_only(settings, field, controller, file, value);
    }
    for (field, value) in network.priorities.iter().enumerate().map(priority) {
        v1_only(settings, &field, "net_prio", "net_prio.ifpriomap", value);
    }
}

/// Controllers that cgroup v2 does not have: nothing in it has their names.
fn v1_only(settings: &mut Settings, field: &str, controller: &str, file: &str, value: String) {
    if settings.facts.unified {
        settings.problem(field, "cgroup v2 has no such setting");
    } else if let Some(home) = settings.home(field, controller, controller) {
        settings.set(home, field, file, value);
    }
}

pub fn rdma(settings: &mut Settings, devices: &BTreeMap<String, Rdma>) {
    for (name, limits) in devices {
        let field = format!("rdma/{}", escape(name));
        if name.is_empty() || name.contains(char::is_whitespace) {
            settings.problem(&field, format!("{name:?} is not the name of an RDMA device"));
            continue;
        }
        let parts = [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)];
        let parts: Vec<String> =
            parts.iter().filter_map(|(key, value)| value.map(|value| format!(" {key}={value}"))).collect();
        if parts.is_empty() {
            continue;
        }
        let Some(home) = settings.home(&field, "rdma", "rdma") else { return };
        settings.set(home, &field, "rdma.max", format!("{name}{}", parts.concat()));
    }
}

/// Files of cgroup v2 by their names. A file with several lines takes one at a time.
pub fn unified(settings: &mut Settings, files: &BTreeMap<String, String>) {
    for (file, value) in files {
        let field = format!("unified/{}", escape(file));
        let controller = file.split('.').next().unwrap_or_default();
        if !is_cgroup_setting(file) {
            settings.problem(&field, format!("{file:?} is no file of a cgroup that a container may set"));
            continue;
        }
        let has_v2 = settings.facts.v2().is_some_and(|hierarchy| hierarchy.mount.is_some());
        let index = settings.facts.hierarchies.iter().position(|hierarchy| hierarchy.controllers.is_empty());
        let home = if controller == "cgroup" {
            index.filter(|_| has_v2).map(ControllerLocation::V2)
        } else {
            find(settings.facts, controller, controller)
        };
        let Some(home @ ControllerLocation::V2(_)) = home else {
            settings.problem(&field, format!("there is no controller {controller:?} in cgroup v2 here"));
            continue;
        };
        let values: Vec<String> = value.lines().filter(|line| !line.is_empty()).map(str::to_string).collect();
        let choices = vec![Choice { file: file.clone(), values }];
        let (pointer, hierarchy) = (settings.pointer(&field), home.hierarchy());
        settings.writes.push(Write { pointer, hierarchy, choices, needed: true });
    }
}

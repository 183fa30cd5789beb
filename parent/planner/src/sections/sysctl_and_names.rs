//! What the kernel keeps for a namespace: `hostname`, `domainname`, `linux.sysctl`, the loopback device.
use crate::prelude::*;
use rspawn_proto::ids::Text;
use rspawn_proto::namespaces::Namespace;
use rspawn_proto::plan::RootfsOp;
use rspawn_proto::sysctl::sysctl_owner;

use crate::oci::escape;
use crate::planner::Planner;

/// __NEW_UTS_LEN of the kernel.
const MAX_NAME: usize = 64;

pub fn plan(planner: &mut Planner) {
    let spec = planner.spec;
    if let Some(name) = uts_name(planner, "/hostname", spec.hostname.as_deref()) {
        planner.rootfs("/hostname", RootfsOp::Hostname { name });
    }
    if let Some(name) = uts_name(planner, "/domainname", spec.domainname.as_deref()) {
        planner.rootfs("/domainname", RootfsOp::Domainname { name });
    }
    if planner.spawn.new.contains(Namespace::Network) {
        planner.rootfs("rule: loopback", RootfsOp::LoopbackUp);
    }
    let Some(linux) = planner.linux() else { return };
    for (key, value) in &linux.sysctl {
        sysctl(planner, key, value);
    }
}

fn uts_name(planner: &mut Planner, pointer: &str, name: Option<&str>) -> Option<Text> {
    let name = name.filter(|name| !name.is_empty())?;
    if !planner.owns(Namespace::Uts) {
        let message = "a name needs a uts namespace in /linux/namespaces: it would be the host's name otherwise";
        planner.problem(pointer, message);
        return None;
    }
    if name.len() > MAX_NAME {
        planner.problem(pointer, format!("the name is longer than {MAX_NAME} bytes"));
        return None;
    }
    planner.text(pointer, name)
}

fn sysctl(planner: &mut Planner, key: &str, value: &str) {
    let pointer = format!("/linux/sysctl/{}", escape(key));
    let Some(owner) = sysctl_owner(key).filter(|_| !has_odd_parts(key)) else {
        let message = format!("the sysctl {key} belongs to no namespace: it would change the whole machine");
        planner.problem(pointer, message);
        return;
    };
    if !planner.owns(owner) {
        let kind = owner.name();
        let message =
            format!("the sysctl {key} needs a {kind} namespace in /linux/namespaces: it would be the host's otherwise");
        planner.problem(pointer, message);
        return;
    }
    if owner == Namespace::Uts && planner.spec.hostname.is_some() && key.ends_with("hostname") {
        planner.note(pointer.clone(), "sets the host name again, after /hostname");
    }
    if let (Some(key), Some(value)) = (planner.text(&pointer, key), planner.text(&pointer, value)) {
        planner.rootfs(pointer, RootfsOp::Sysctl { key, value });
    }
}

/// Keys are names of files below /proc/sys, and nothing else.
fn has_odd_parts(key: &str) -> bool {
    key.contains('\0') || key.split('/').any(|part| matches!(part, "" | "." | "..")) || key.contains("..")
}

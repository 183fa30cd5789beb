//! What the steps of a plan are about, for the comparison of two.
use rspawn_proto::plan::*;
use rspawn_proto::report::Place;

/// What sentences speak of. Where they have spoken, the steps need not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Capabilities,
    Identity,
    Confinement,
    Namespaces,
    HostPaths,
    Inside,
    Payload,
    Hooks,
}

pub fn subject_of_step(plan: &Plan, place: Place, in_both: &impl Fn(&str) -> bool) -> Option<Subject> {
    match place {
        Place::Host(index) => match &plan.host.get(index as usize)?.op {
            // Of what both show, the attributes are worth a line.
            HostOp::CloneTree { path, .. } => (!in_both(path.as_str())).then_some(Subject::HostPaths),
            HostOp::OpenNamespace { .. } => Some(Subject::Namespaces),
            HostOp::DeviceRules { .. } => Some(Subject::Inside),
            _ => None,
        },
        Place::Attach(_) => Some(Subject::Namespaces),
        Place::Rootfs(index) => match &plan.rootfs.get(index as usize)?.op {
            RootfsOp::CloneTree { .. } => Some(Subject::HostPaths),
            RootfsOp::Attach { mount, .. }
            | RootfsOp::AttachLink { mount, .. }
            | RootfsOp::AttachRoot { mount, .. } => {
                let cloned = |step: &Step<HostOp>| matches!(&step.op, HostOp::CloneTree { out, .. } if out == mount);
                plan.host.iter().any(cloned).then_some(Subject::HostPaths)
            }
            RootfsOp::Mask { .. }
            | RootfsOp::ReadOnly { .. }
            | RootfsOp::MakeNode { .. }
            | RootfsOp::Sysctl { .. }
            | RootfsOp::SetAttrs { attrs: MountAttrs { set: 0, clear: 0, propagation: Some(_), .. }, .. } => {
                Some(Subject::Inside)
            }
            RootfsOp::Hooks => Some(Subject::Hooks),
            _ => None,
        },
        _ => None,
    }
}

pub fn subject_of_pointer(pointer: &str) -> Option<Subject> {
    match pointer {
        "/process/capabilities" | "/process/capabilities/bounding" => Some(Subject::Capabilities),
        "/process/user/uid" | "/process/user/gid" | "/process/user/additionalGids" => Some(Subject::Identity),
        "/linux/seccomp" | "/process/noNewPrivileges" | "/process/apparmorProfile" | "/process/selinuxLabel" => {
            Some(Subject::Confinement)
        }
        "/process/args" | "/process/env" | "/process/cwd" | "rule: init" => Some(Subject::Payload),
        _ => None,
    }
}

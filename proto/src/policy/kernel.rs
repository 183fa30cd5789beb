//! Settings of the whole machine in procfs and sysfs, which uid 0 without a user namespace may write: one of them names a
//! program that the kernel runs as root.
use alloc::{format, string::String, vec::Vec};

use super::Violation;
use crate::ids::{Slot, Target};
use crate::plan::*;

/// Of procfs: what takes writes that reach the machine, and what shows its memory.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Each procfs has its settings read-only or hidden, each sysfs is read-only, and nothing takes that away again.
pub fn judge_kernel_files(plan: &Plan, found: &mut Vec<Violation>) {
    let mut report = |origin: &str, what: String| found.push(Violation::new("kernel", origin, what));
    for step in &plan.rootfs {
        match &step.op {
            RootfsOp::NewFilesystem { out, fs: VirtualFs::Proc, attrs, .. } if attrs & attr::RDONLY == 0 => {
                if let Some(file) = READ_ONLY.iter().find(|file| !is_held(plan, *out, file)) {
                    report(&step.origin, format!("may write to {file} of its procfs, which is the machine's"));
                }
            }
            RootfsOp::NewFilesystem { fs: VirtualFs::Sysfs, attrs, .. } if attrs & attr::RDONLY == 0 => {
                report(&step.origin, "may write to its sysfs, which is the machine's".into());
            }
            // Of what was made read-only here, or of something around it.
            RootfsOp::SetAttrs { mount, attrs } if attrs.clear & attr::RDONLY != 0 => {
                let is_ours = |op: &RootfsOp| match op {
                    RootfsOp::ReadOnly { out, .. } | RootfsOp::CloneTree { out, .. } => out == mount,
                    RootfsOp::NewFilesystem { out, fs, .. } => {
                        out == mount && matches!(fs, VirtualFs::Proc | VirtualFs::Sysfs)
                    }
                    _ => false,
                };
                if attrs.recursive || plan.rootfs.iter().any(|step| is_ours(&step.op)) {
                    report(&step.origin, "takes the protection of the kernel's settings away".into());
                }
            }
            _ => {}
        }
    }
}

fn is_held(plan: &Plan, procfs: Slot, file: &str) -> bool {
    let is_it = |at: &Target| at.mount == procfs && at.beneath() == Some(file);
    plan.rootfs.iter().any(|step| match &step.op {
        RootfsOp::Mask { at, .. } | RootfsOp::ReadOnly { at, .. } => is_it(at),
        _ => false,
    })
}

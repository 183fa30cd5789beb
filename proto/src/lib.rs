//! The wire between rspawn's stages: the plan, the control messages, their limits, and the checks that a
//! privileged stage makes before it believes any of it.
//!
//! No I/O, no parser but [`codec`], no `unsafe`, no standard library: what is here is compiled into the privileged
//! programs.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod check;
pub mod codec;
pub mod filter;
pub mod hook;
pub mod ids;
pub mod mount_attr;
pub mod msg;
pub mod namespaces;
pub mod plan;
pub mod policy;
pub mod record;
pub mod report;
pub mod sysctl;
pub mod unit;
pub mod virtual_fs;

/// First word of every encoded plan. Changes with every change of a wire type, so that a saved plan or a helper of
/// another build is refused rather than misread.
pub const WIRE_VERSION: u32 = 0x5253_000e;

/// Exit status of a privileged program that got no memory: it has none left to say so by (EX_OSERR of sysexits(3)).
pub const OUT_OF_MEMORY: i32 = 71;

/// Most bytes an encoded plan may have. A podman bundle makes about 20 KiB.
pub const MAX_PLAN: usize = 4 << 20;
/// Most bytes of any other control message.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most operations in one plan, over all phases.
pub const MAX_OPS: usize = 32 << 10;
/// Most slots (descriptors, detached mounts, namespaces) one plan may define.
pub const MAX_SLOTS: usize = 8 << 10;
/// Most bytes of a path: PATH_MAX.
pub const MAX_PATH: usize = 4096;
/// Most supplementary groups: the kernel's NGROUPS_MAX.
pub const MAX_GROUPS: usize = 65536;

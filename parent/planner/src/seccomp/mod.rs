//! Compiles `linux.seccomp` (runtime-spec, config-linux.md) to classic BPF.
//!
//! Pure: a profile in, a program or a list of problems out. Verdicts agree with
//! what runc gets from libseccomp 2.5, which users' profiles are written and
//! tested against; `tests/seccomp_vs_libseccomp.rs` holds the two against each
//! other. What follows was read there or found by running it.
//!
//! # Which calls a rule is about
//! - The native architecture is always part of the filter. A call through any
//!   other that the profile does not list kills the thread (libseccomp's
//!   `SCMP_FLTATR_ACT_BADARCH`), as does an x32 call where x32 is not listed.
//! - A rule applies to every architecture of the profile that has the call.
//! - i386: a rule on a socket or System V IPC call also covers the same call
//!   made through `socketcall`/`ipc`. Their first argument then is the call's
//!   code; conditions of the rule on argument 0 fall away, the others stay.
//! - On 32-bit architectures (x32 too) values are cut to 32 bits and only the
//!   low half of an argument is looked at.
//!
//! # Several rules for one call
//! - A rule with the default action (same errno as well) is dropped first.
//! - The first rule without conditions decides alone: earlier conditional rules
//!   are erased, later rules of any kind ignored. A `MASKED_EQ` with mask 0 is
//!   no condition.
//! - Otherwise rules are alternatives. If two with different actions match, the
//!   one on the higher argument index wins, then equality (`EQ`, `NE`,
//!   `MASKED_EQ`) before upper bounds before lower bounds, then the larger value
//!   (for upper bounds the smaller); order in the profile decides only a tie.
//! - A rule whose conditions are the beginning (by argument index) of another's
//!   covers it: coming first, it swallows the longer one whatever its action;
//!   coming second with another action, the profile is refused, by libseccomp
//!   with EEXIST and here with a [`Problem`].
//! - Two conditions on one argument within a rule make each condition a rule.
//!
//! libseccomp 2.5.4 contradicts this in some cases, where we do not follow. Podman's
//! profile has none of them:
//! - on 32-bit architectures `LE` after an `EQ` on a lower argument becomes `GT`;
//! - when the test of one argument fails and the next rule's begins, a needed
//!   load is sometimes missing, so that the wrong argument is compared;
//! - rules whose first condition is an inequality on the same argument, and which
//!   have further ones, get these mixed up (or libseccomp never returns);
//! - inequalities on one 64-bit argument with different actions: where high words
//!   are equal, it can be the rule added first that wins;
//! - when the call sorted first does not exist on an architecture (x32, i386),
//!   that architecture's numbers are never loaded and every call gets the
//!   default action.
//!
//! # Calls newer than the profile
//! As runc's `patchbpf`: if the default action is not ALLOW, LOG or TRACE, then
//! per architecture every number above the largest one the profile names (in any
//! rule, redundant ones too) returns ENOSYS rather than the default action, so
//! that libc falls back to older calls instead of failing with EPERM. No effect
//! where the profile names no call but number 0. runc leaves i386's multiplexed
//! calls out of that maximum; here a number a rule names is never overridden.

pub mod arch;
pub mod bpf;
pub mod default;
pub mod parse;
mod problems;
pub mod ret;
mod rules;
mod sections;
mod syscalls_aarch64;
mod syscalls_arm;
mod syscalls_riscv64;
mod syscalls_x32;
mod syscalls_x86;
mod syscalls_x86_64;
#[cfg(test)]
mod tests;

pub use arch::{Arch, known_calls};
pub use bpf::Insn;
pub use default::default_profile;
pub use parse::Options;
pub use rspawn_proto::filter as eval;

use crate::oci::seccomp::Seccomp;
use crate::prelude::*;
use crate::problem::Problem;
use problems::too_long;

/// What init needs to install the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub program: Vec<Insn>,
    /// For seccomp(2), with NEW_LISTENER when `notify` is set.
    pub flags: u32,
    /// A rule uses NOTIFY: the listener goes to `listenerPath`.
    pub notify: bool,
    /// What was skipped or ignored.
    pub warnings: Vec<Problem>,
}

/// Compiles `s` for a machine whose own architecture is `native`.
pub fn compile(s: &Seccomp, native: Arch, options: &Options) -> Result<Compiled, Vec<Problem>> {
    let mut found = parse::Findings::default();
    let parsed = parse::parse(s, native, options, &mut found);
    if !found.problems.is_empty() {
        return Err(found.problems);
    }
    let sections = sections::build(&parsed, options.enosys_stub).map_err(|p| vec![p])?;
    let program =
        bpf::assemble(&sections, parsed.default, ret::KILL_THREAD).map_err(|bpf::TooLong| vec![too_long()])?;
    Ok(Compiled { program, flags: parsed.flags, notify: parsed.notify, warnings: found.warnings })
}

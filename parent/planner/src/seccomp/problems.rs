//! What is wrong with a profile as a whole.
use rspawn_proto::filter::MAX_INSNS;

use crate::prelude::*;
use crate::problem::Problem;

pub(super) const BASE: &str = "/linux/seccomp";

pub(super) fn too_long() -> Problem {
    Problem::new(
        BASE,
        format!(
            "the filter would need more than {} instructions, the kernel's limit; use fewer argument \
             conditions or architectures.",
            MAX_INSNS
        ),
    )
}

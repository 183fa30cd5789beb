//! The floor: the least that any program can do to start the default bundle (`rspawn spec --no-terminal` with
//! `/bin/true`), as a careful C program would: everything hard-coded, nothing parsed, checked or allocated, one
//! clone3, one exec. The benchmark measures rspawn against it.
//!
//! `floor ROOTFS [NAME OPTIONS CGROUP]...`: the root, absolute, and each hierarchy of cgroups: the directory and the
//! mount options to show it with (both empty: cgroup v2, which is mounted if it is the only one), and the cgroup to make
//! the container's in. Exits with the payload's status; with 90 and up, as in `container::give_up`, when a step fails.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
#[path = "floor/container.rs"]
mod container;

#[cfg(target_arch = "x86_64")]
rspawn_nolibc::entry!(container::main);

/// Its system calls are written for one processor; the workspace is to be built for others too.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    extern crate alloc;

    use alloc::vec::Vec;
    use core::ffi::CStr;

    pub fn main(_argv: Vec<&'static CStr>, _env: Vec<&'static CStr>) -> i32 {
        let _ = rspawn_sys::Fd::from_raw(2).write(b"floor: it is written for x86-64 alone\n");
        1
    }
}

#[cfg(not(target_arch = "x86_64"))]
rspawn_nolibc::entry!(elsewhere::main);

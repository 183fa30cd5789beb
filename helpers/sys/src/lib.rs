//! The system calls that rspawn-setup and rspawn-init make, each behind a safe function.
//!
//! No C library is linked into the privileged programs: a call is one instruction here, and nothing else runs before
//! or after it. This crate and rspawn-nolibc hold all of rspawn's `unsafe`; each block gives its reason.
//!
//! The programs have one thread and never share memory with a child but for [`memory::SharedWord`].
#![no_std]
extern crate alloc;

pub mod bpf;
pub mod cgroup;
pub mod channel;
pub mod confine;
pub mod cred;
mod errno;
pub mod failure;
pub mod fd;
pub mod file;
pub mod fixed_path;
pub mod hook;
pub mod hook_program;
pub mod image;
pub mod memory;
pub mod mount;
pub mod net;
pub mod net_device;
pub mod process;
pub mod pty;
mod raw;
pub mod signal;
pub mod tune;

pub use errno::{Errno, Result};
pub use failure::{Failure, Named, Outcome};
pub use fd::Fd;

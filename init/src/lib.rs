//! `rspawn-init`: the first process of a container.
//!
//! Started by rspawn-setup it applies the last mile (`finish`) and becomes the payload, or stays PID 1 beside it
//! (`supervise`). Started by anyone else, `rspawn-init -- CMD ARGS`, it is a plain init for an image.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod complaint;
mod finish;
mod home;
mod hooks;
mod listener;
mod lookup;
mod managed;
mod stage;
mod standalone;
mod streams;
mod supervise;

use alloc::vec::Vec;
use core::ffi::CStr;

use rspawn_sys::Fd;

pub fn main(argv: Vec<&'static CStr>, env: Vec<&'static CStr>) -> i32 {
    let first = argv.get(1).and_then(|word| word.to_str().ok()).unwrap_or_default();
    match first.strip_prefix("--stage=").and_then(|number| number.parse().ok()) {
        Some(stage) => managed::run(Fd::from_raw(stage), argv, &env),
        None => standalone::run(&argv, &env),
    }
}

//! What a program needs of a C library to start, for rspawn-setup and rspawn-init: an entry point, a heap that only
//! grows, the memory functions that the compiler calls, and a panic that says where.
//!
//! Only the binaries depend on this crate, so that tests can link their logic with the standard library.
#![no_std]
extern crate alloc;

mod heap;
mod mem;
mod relocate;

use alloc::vec::Vec;
use core::ffi::CStr;
use core::panic::PanicInfo;

pub use relocate::relocate;

use rspawn_sys::{Fd, process};

/// What execve(2) left on the stack. The strings live as long as the process.
pub struct Start {
    pub argv: Vec<&'static CStr>,
    pub env: Vec<&'static CStr>,
}

impl Start {
    /// Reads argc, argv, NULL, envp, NULL (System V ABI, "Process Initialization").
    ///
    /// # Safety
    /// `stack` must be the stack pointer that the kernel gave the process.
    pub unsafe fn read(stack: *const usize) -> Self {
        // SAFETY: the kernel wrote argc first.
        let count = unsafe { *stack };
        let strings = |from: usize| {
            // SAFETY: argv and envp end with a null pointer, which `take_while` stops at.
            let pointers = (from..).map(move |i| unsafe { *stack.add(i) }).take_while(|pointer| *pointer != 0);
            // SAFETY: each is a NUL-terminated string that the kernel copied to this stack for the process's life.
            pointers.map(|pointer| unsafe { CStr::from_ptr(pointer as *const _) }).collect()
        };
        Self { argv: strings(1), env: strings(count + 2) }
    }
}

/// Defines `_start`, which runs `$main(Start) -> i32` and exits with its result.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_arch = "x86_64")]
        core::arch::global_asm!(
            ".globl _start",
            "_start: xor ebp, ebp",
            "mov rdi, rsp",
            "lea rsi, [rip + __ehdr_start]",
            "and rsp, -16",
            "call {main}",
            "ud2",
            main = sym rspawn_start_main
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::global_asm!(
            ".globl _start",
            "_start: mov x29, xzr",
            "mov x0, sp",
            "adrp x1, __ehdr_start",
            "add x1, x1, :lo12:__ehdr_start",
            "bl {main}",
            "brk 1",
            main = sym rspawn_start_main
        );

        extern "C" fn rspawn_start_main(stack: *const usize, image: *mut u8) -> ! {
            // SAFETY: `_start` passes the address of this program's ELF header, and nothing has run yet.
            unsafe { $crate::relocate(image) };
            // SAFETY: `_start` passes the stack pointer as the kernel set it.
            let start = unsafe { $crate::Start::read(stack) };
            $crate::exit($main(start.argv, start.env))
        }
    };
}

pub fn exit(status: i32) -> ! {
    process::exit(status)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let text = alloc::format!("rspawn: a bug, please report it: {info}\n");
    let stderr = Fd::from_raw(2);
    let _ = stderr.write(text.as_bytes());
    process::exit(70)
}

/// The standard library's own code comes compiled with unwinding in mind and names these; with `panic = "abort"`
/// nothing ever calls them.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    process::exit(70)
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    process::exit(70)
}

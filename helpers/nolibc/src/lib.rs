//! What a program needs of a C library to start, for rspawn-setup, rspawn-init and rspawn-hooks: an entry point, a heap
//! that only grows, the memory functions that the compiler calls, and a panic that says where.
//!
//! Only the binaries depend on this crate, so that tests can link their logic with the standard library.
#![no_std]
extern crate alloc;

mod heap;
mod mem;

use alloc::vec::Vec;
use core::ffi::CStr;
use core::panic::PanicInfo;

use rspawn_sys::{Fd, memory, process};

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

/// Defines `_start`, which makes every pointer of the program's data lead to where the program is, runs
/// `$main(Start) -> i32` and exits with its result.
///
/// What a dynamic loader does for other programs comes first and is written in assembly, since compiled code may itself
/// go through such pointers: the table DT_RELA (7) of DT_RELASZ (8) bytes, whose entries are (place, kind, addend) of
/// the one kind that a program without libraries has, R_X86_64_RELATIVE or R_AARCH64_RELATIVE (elf(5)).
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_arch = "x86_64")]
        core::arch::global_asm!(
            ".globl _start",
            ".hidden _DYNAMIC",
            "_start: xor ebp, ebp",
            "mov rdi, rsp",
            "lea rsi, [rip + __ehdr_start]",
            "lea rax, [rip + _DYNAMIC]",
            "xor ecx, ecx",
            "xor edx, edx",
            "2: mov r8, [rax]",
            "cmp r8, 7",
            "cmove rcx, [rax + 8]",
            "cmp r8, 8",
            "cmove rdx, [rax + 8]",
            "add rax, 16",
            "test r8, r8",
            "jnz 2b",
            "add rcx, rsi",
            "add rdx, rcx",
            "3: cmp rcx, rdx",
            "jae 4f",
            "cmp dword ptr [rcx + 8], 8",
            "jne 5f",
            "mov r8, [rcx]",
            "mov r9, [rcx + 16]",
            "add r9, rsi",
            "mov [rsi + r8], r9",
            "add rcx, 24",
            "jmp 3b",
            "4: and rsp, -16",
            "call {main}",
            "5: ud2",
            main = sym rspawn_nolibc_main
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::global_asm!(
            ".globl _start",
            ".hidden _DYNAMIC",
            "_start: mov x29, xzr",
            "mov x0, sp",
            "adrp x1, __ehdr_start",
            "add x1, x1, :lo12:__ehdr_start",
            "adrp x2, _DYNAMIC",
            "add x2, x2, :lo12:_DYNAMIC",
            "mov x3, xzr",
            "mov x4, xzr",
            "2: ldp x5, x6, [x2], 16",
            "cmp x5, 7",
            "csel x3, x6, x3, eq",
            "cmp x5, 8",
            "csel x4, x6, x4, eq",
            "cbnz x5, 2b",
            "add x3, x3, x1",
            "add x4, x4, x3",
            "3: cmp x3, x4",
            "b.hs 4f",
            "ldp x5, x6, [x3], 16",
            "ldr x7, [x3], 8",
            "cmp x6, 1027",
            "b.ne 5f",
            "add x7, x7, x1",
            "str x7, [x1, x5]",
            "b 3b",
            "4: bl {main}",
            "5: brk 1",
            main = sym rspawn_nolibc_main
        );

        extern "C" fn rspawn_nolibc_main(stack: *const usize, image: *const u8) -> ! {
            // SAFETY: `_start` passes the address of this program's ELF header, and the stack pointer as the kernel set it.
            let start = unsafe {
                $crate::make_tables_read_only(image);
                $crate::Start::read(stack)
            };
            $crate::exit($main(start.argv, start.env))
        }
    };
}

/// Takes the right to write from the data that relocation was the last to change (PT_GNU_RELRO).
///
/// # Safety
/// `image` must be the address of the program's ELF header.
pub unsafe fn make_tables_read_only(image: *const u8) {
    const PT_GNU_RELRO: usize = 0x6474_e552;
    // SAFETY: elf(5): the number of program headers, and behind this header the first, each of seven words: type and flags,
    // offset, address, physical address, size in the file, size, alignment.
    let (count, headers) = unsafe { (*image.add(56).cast::<u16>(), image.add(64).cast::<[usize; 7]>()) };
    for at in 0..count.into() {
        // SAFETY: within their number.
        let [kind, _, address, _, _, size, _] = unsafe { *headers.add(at) };
        if kind & 0xffff_ffff == PT_GNU_RELRO {
            // What shares the first page with it is as constant; the linker aligns its end.
            let (begin, end) = (address & !0xfff, (address + size) & !0xfff);
            if memory::make_read_only(image.addr() + begin, end - begin).is_err() {
                exit(70)
            }
        }
    }
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

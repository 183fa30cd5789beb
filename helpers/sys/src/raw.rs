//! The bare system call instruction, and what it is given.
use alloc::ffi::CString;
use core::ffi::CStr;

use crate::{Errno, Result};

/// A C string for one call; text that reaches here was checked for NUL when its type was made.
pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

/// What a system call can be given: an integer, a descriptor, or an address.
pub(crate) trait Argument {
    fn word(self) -> usize;
}

macro_rules! integer_arguments {
    ($($type:ty),*) => {$(
        impl Argument for $type {
            fn word(self) -> usize {
                self as usize
            }
        }
    )*};
}
integer_arguments!(i32, u32, i64, u64, usize, bool);

impl Argument for &CStr {
    fn word(self) -> usize {
        self.as_ptr() as usize
    }
}

impl Argument for &CString {
    fn word(self) -> usize {
        self.as_ptr() as usize
    }
}

impl<T> Argument for *const T {
    fn word(self) -> usize {
        self as usize
    }
}

impl<T> Argument for *mut T {
    fn word(self) -> usize {
        self as usize
    }
}

/// Makes a system call. Every address among the arguments must be null or that of a value which lives until the call
/// returns, as long as the call is told, and of the type that it reads or writes.
macro_rules! sys {
    ($call:ident $(, $argument:expr)* $(,)?) => {{
        #[allow(clippy::macro_metavars_in_unsafe)]
        // SAFETY: this is the contract of the macro, kept within the function that uses it: each of them makes one
        // call with what it borrows or owns itself.
        unsafe { $crate::raw::call(libc::$call, &[$($crate::raw::Argument::word($argument)),*]) }
    }};
}
pub(crate) use sys;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn instruction(number: libc::c_long, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx, r11 and rax alone; what it does to memory is the caller's contract.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn instruction(number: libc::c_long, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers x0 alone; what it does to memory is the caller's contract.
    unsafe {
        core::arch::asm!("svc 0", in("x8") number, inlateout("x0") a[0] => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

/// Executes what is no instruction, by which the kernel ends the process.
pub(crate) fn fault() -> ! {
    // SAFETY: it touches nothing and does not return.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nomem, nostack))
    }
    // SAFETY: the same.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("udf #0", options(noreturn, nomem, nostack))
    }
}

/// Makes a system call, again while a signal interrupts it.
///
/// # Safety
/// That of [`sys!`].
#[inline(always)]
pub(crate) unsafe fn call(number: libc::c_long, arguments: &[usize]) -> Result<usize> {
    let mut a = [0; 6];
    a[..arguments.len()].copy_from_slice(arguments);
    loop {
        // SAFETY: passed on from the caller.
        let result = unsafe { instruction(number, a) };
        // The last page of addresses is reserved for error numbers.
        match result {
            -4095..0 if result == -libc::EINTR as isize => {}
            -4095..0 => return Err(Errno(-result as i32)),
            _ => return Ok(result as usize),
        }
    }
}

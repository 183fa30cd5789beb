//! The bare system call instruction, and errno.
use alloc::ffi::CString;

/// A positive errno value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const EPERM: Errno = Errno(libc::EPERM);
    pub const ENOENT: Errno = Errno(libc::ENOENT);
    pub const EINTR: Errno = Errno(libc::EINTR);
    pub const EIO: Errno = Errno(libc::EIO);
    pub const EAGAIN: Errno = Errno(libc::EAGAIN);
    pub const EACCES: Errno = Errno(libc::EACCES);
    pub const EBUSY: Errno = Errno(libc::EBUSY);
    pub const EEXIST: Errno = Errno(libc::EEXIST);
    pub const ENODEV: Errno = Errno(libc::ENODEV);
    pub const ENOTDIR: Errno = Errno(libc::ENOTDIR);
    pub const EINVAL: Errno = Errno(libc::EINVAL);
    pub const ENOEXEC: Errno = Errno(libc::ENOEXEC);
    pub const ELOOP: Errno = Errno(libc::ELOOP);
    pub const ENOSYS: Errno = Errno(libc::ENOSYS);
    pub const EMSGSIZE: Errno = Errno(libc::EMSGSIZE);
    pub const ECHILD: Errno = Errno(libc::ECHILD);
    pub const EISDIR: Errno = Errno(libc::EISDIR);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// A C string for one call; text that reaches here was checked for NUL when its type was made.
pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

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

/// Makes a system call with any number of arguments up to six.
///
/// # Safety
/// Each pointer among the arguments must be valid for what the call does with it.
#[inline(always)]
pub(crate) unsafe fn call<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<usize> {
    let mut a = [0; 6];
    a[..N].copy_from_slice(&arguments);
    // SAFETY: passed on from the caller.
    let result = unsafe { instruction(number, a) };
    // The last page of addresses is reserved for error numbers.
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// [`call`], again while a signal interrupts it.
///
/// # Safety
/// As [`call`].
pub(crate) unsafe fn call_again<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<usize> {
    loop {
        // SAFETY: passed on from the caller.
        match unsafe { call(number, arguments) } {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

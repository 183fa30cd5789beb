//! Confines itself as rspawn's parent does, then makes the one system call that its arguments name: a number, and up
//! to six arguments. Says `survived` and the result if it lives to tell.
use std::io::Write;

fn main() {
    let numbers: Vec<i64> = std::env::args().skip(1).map(|word| word.parse().expect("a number")).collect();
    let argument = |index: usize| numbers.get(index).copied().unwrap_or(0);
    // A signal mask that would hold a SIGSYS back must not matter.
    rspawn::sandbox::confine().expect("to be confined");
    if numbers.is_empty() {
        // Held where a test can look at it.
        let mut byte = [0u8];
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut byte);
        return;
    }
    // SAFETY: the test passes null pointers and impossible descriptors: the kernel refuses, or kills, or answers with
    // an error. What ends the process or blocks for ever is the test's to leave out.
    let result = unsafe {
        libc::syscall(argument(0), argument(1), argument(2), argument(3), argument(4), argument(5), argument(6))
    };
    let _ = writeln!(std::io::stdout(), "survived {result}");
}
